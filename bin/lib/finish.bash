# The end of a run: merge, audit, what goes to the bucket, and the closing words.
# Sourced by commands that run chunks to the end; needs pool.bash. The sourcing
# script sets dataset, pipeline, quiet and verbose.

# shellcheck disable=SC2154

# told TEXT -- says a step, where the user wants to hear of each
told() {
  if [[ -n $verbose ]]; then
    say "$1"
  fi
}

# go_on ARG... -- prints the command that goes on, for a shell
go_on() {
  local name words environment=()
  for name in PATHNAME_BASENAME BPCP_CELLPROFILER BPCP_MYSQL_DEFAULTS; do
    [[ -n ${!name:-} ]] && environment+=("$name=${!name}")
  done
  if [[ ${#environment[@]} -gt 0 ]]; then
    environment=(env "${environment[@]}")
  fi
  words=$(printf '%q ' "${environment[@]}" "$@")
  printf '%s\n' "${words% }"
}

# leave CODE COMMAND... -- ends with a step's exit code; where a signal ended it, says how to go on
leave() {
  if [[ -n $STOPPED ]]; then
    die 75 "stopped" "go on with: $(go_on "${@:2}")"
  fi
  exit "$1"
}

# close_run STARTED BEFORE AUDITED COMMAND... -- says how it ended and exits with what that means
close_run() {
  local wall code=0
  wall=$(($(date +%s) - $1))
  python_step bpcp.run.closing "$STATUS_DIR" --wall-s "$wall" --before-s "$2" --audited "$3" \
    --ran "$LEFT" --go-on="$(go_on "${@:4}")" ${quiet:+--quiet} || code=$?
  event event=closed exit="$code" wall_s="$wall"
  exit "$code"
}

# finish_run SLOTS STARTED BEFORE KEEP FORMAT... -- COMMAND... -- brings what chunks wrote together,
# audits it, and ends; KEEP leaves the chunks' tables as they are. COMMAND is what goes on.
finish_run() {
  local slots=$1 started=$2 before=$3 keep=$4 formats=() audited=0 beside
  shift 4
  while [[ $1 != -- ]]; do
    formats+=("--format=$1")
    shift
  done
  shift
  if [[ -n $STOPPED || -n $(python_step bpcp.run.todo "$STATUS_DIR" --undecided) ]]; then
    close_run "$started" "$before" 0 "$@"
  fi
  told "merge"
  step bpcp.merge "--dataset=$dataset" "--pipeline=$pipeline" ${quiet:+-q} "${formats[@]}" ||
    leave $? "$@"
  told "audit"
  step bpcp.audit "--dataset=$dataset" "--pipeline=$pipeline" --quick --quiet >&2 || audited=$?
  [[ -z $STOPPED ]] || leave 75 "$@"
  beside=$(python_step bpcp.run.todo "$STATUS_DIR" --beside) || leave $? "$@"
  if [[ $beside == *upload* ]]; then
    told "send: what is left, and verify all"
    step bpcp.sync out "--dataset=$dataset" "--pipeline=$pipeline" ${quiet:+-q} || leave $? "$@"
  fi
  if [[ -z $keep ]]; then
    pack_chunks "$slots"
  fi
  close_run "$started" "$before" "$audited" "$@"
}
