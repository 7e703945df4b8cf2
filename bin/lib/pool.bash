# Running a plan: the lock, GNU parallel over `bpcp run-chunk`, signals, and
# the closing words. Sourced by the entry scripts and by bpcp-run.
#
# Success is what the chunks' own verdicts say, never GNU parallel's exit
# status: it counts failed jobs, and after a hang-up it is 0 with jobs that
# never ran.

# GNU parallel gives a chunk this long to end its CellProfiler and clear away
POOL_TERMSEQ=TERM,5000,KILL,25

STOPPED=''    # the signal that ended this start early
CHILD=''      # what is being waited for
LEFT=0        # how many chunks were left to run
DRAINING=''   # whether no new chunks are started, but those that run go on
LOG_GROUP=''  # the CloudWatch log group that events are sent to
LOG_ACCESS=() # how it is reached

# need_tools -- refuses to start where a tool that every run needs is missing
need_tools() {
  local tool missing=()
  for tool in parallel flock setpriv gzip; do
    command -v "$tool" >/dev/null || missing+=("$tool")
  done
  if [[ ${#missing[@]} -gt 0 ]]; then
    die 69 "missing: ${missing[*]}" "$BPCP_ROOT/ami_setup/install.sh"
  fi
  if ! parallel --version 2>/dev/null | grep -q '^GNU parallel'; then
    die 69 "$(command -v parallel) is not GNU parallel" "remove moreutils' parallel, then: $BPCP_ROOT/ami_setup/install.sh"
  fi
}

# slots_of JOBS DATASET PIPELINE [QUIET] -- prints how many processes to start: what GNU parallel's -P
# JOBS means here, or, where JOBS is empty, as many as there are cores and as memory carries
slots_of() {
  python_step bpcp.slots "--jobs=$1" "--dataset=$2" "--pipeline=$3" ${4:+-q}
}

# open_run DATASET PIPELINE -- sets STATUS_DIR, LOG_DIR, LOCK, JOBLOG, EVENTS, FETCHING and RAMDISK_DIR
open_run() {
  local paths
  mapfile -d '' -t paths < <(run_python bpcp.workspace -- "$1" "$2")
  wait "$!" || exit $?
  STATUS_DIR=${paths[0]} LOG_DIR=${paths[1]} LOCK=${paths[2]} JOBLOG=${paths[3]} EVENTS=${paths[4]}
  FETCHING=${paths[5]}
  # shellcheck disable=SC2034 # the entry script's
  RAMDISK_DIR=${paths[6]}
  if ! mkdir -p -- "$STATUS_DIR" "$LOG_DIR" 2>/dev/null; then
    die 73 "can't make $STATUS_DIR" "make it writable, or copy the pipeline into a folder of your own"
  fi
}

# take_lock -- becomes the one writer of the run; the lock ends with this process and its children
take_lock() {
  if ! : 2>/dev/null >>"$LOCK"; then
    die 77 "can't write $LOCK" "it belongs to somebody else: $(stat -c %U -- "$LOCK" 2>/dev/null)"
  fi
  exec 9>>"$LOCK"
  if ! flock --wait 5 9; then
    die 75 "another process is at work on this run: $(head -c 200 -- "$LOCK")" "wait for it, or end it; the lock goes with it"
  fi
  printf 'pid=%s host=%s since=%s\n' "$$" "$(uname -n)" "$(TZ=UTC printf '%(%Y-%m-%dT%H:%M:%SZ)T' -1)" >"$LOCK"
  export BPCP_LOCK_HELD=$LOCK
}

# event KEY=VALUE... -- writes down what happened
event() {
  printf 'time=%s %s\n' "$(TZ=UTC printf '%(%Y-%m-%dT%H:%M:%SZ)T' -1)" "$*" >>"$EVENTS"
}

# python_step MODULE ARG... -- runs a module of the package
python_step() {
  (run_python "$@")
}

# on_signal NAME -- ends what runs: kindly the first time, at once the second
on_signal() {
  if [[ -z $STOPPED || -n $DRAINING ]]; then
    STOPPED=$1 DRAINING=''
    [[ -n $CHILD ]] && kill -TERM "$CHILD" 2>/dev/null
  elif [[ -n $CHILD ]]; then
    kill -KILL "$CHILD" 2>/dev/null
  fi
  return 0
}

# on_notice -- starts no new chunks; those that run go on
on_notice() {
  if [[ -z $STOPPED ]]; then
    STOPPED=SPOT DRAINING=1
    [[ -n $CHILD ]] && kill -HUP "$CHILD" 2>/dev/null
  fi
  return 0
}

# catch_signals -- lets Ctrl-C, TERM, a hang-up and a spot notice end the run in good order
catch_signals() {
  trap on_notice USR1
  trap 'on_signal SPOT' USR2
  trap 'on_signal INT' INT
  trap 'on_signal TERM' TERM
  trap 'on_signal HUP' HUP
}

# await PID -- waits for a child to its end, also across signals; returns its exit code
await() {
  local code
  CHILD=$1
  while :; do
    code=0
    wait "$1" || code=$?
    kill -0 "$1" 2>/dev/null || break
  done
  CHILD=''
  return "$code"
}

# step MODULE ARG... -- runs a module of the package in the background and waits: so signals are heard
step() {
  # an asynchronous child would start with INT ignored and stdin closed: both are wanted here
  (run_python "$@") &
  await $!
}

# start_fetcher SLOTS -- fetches images ahead of the chunks; sets FETCHER
start_fetcher() {
  # chunks wait for their images while this lock is held: by the fetcher, as long as it lives
  exec 8>>"$FETCHING"
  flock 8
  (run_python bpcp.fetch "$STATUS_DIR" --slots "$1") 9>&- &
  FETCHER=$!
  exec 8>&-
}

# end_helper PID -- ends a process beside the run, and waits for it; its exit code is its own affair
end_helper() {
  if [[ -n $1 ]]; then
    kill -TERM "$1" 2>/dev/null || [[ $? -eq 1 ]]
    await "$1" || :
  fi
}

# record VERBOSE -- writes down what comes in as events, and shows it where VERBOSE is not empty
record() {
  exec 9>&- # this ends when the pool does; the lock is not its
  if [[ -n $1 ]]; then
    tee -a -- "$EVENTS" >&2
  else
    cat >>"$EVENTS"
  fi
}

# run_pool SLOTS QUIET [VERBOSE] -- runs what is left of the plan; sets LEFT to how many chunks that
# were; VERBOSE shows each event as it is written down
run_pool() {
  local slots=$1 quiet=$2 verbose=${3:-} ids id tasks=() progress=''
  if [[ -n $STOPPED ]]; then
    return
  fi
  ids=$(python_step bpcp.todo "$STATUS_DIR")
  for id in $ids; do
    # all are given as input: GNU parallel would replace a {} that stands in the command
    tasks+=("$BPCP_ROOT/bin/bpcp" "$STATUS_DIR" "$id")
    LEFT=$((LEFT + 1))
  done
  if [[ $LEFT -eq 0 ]]; then
    return
  fi
  event event=start slots="$slots" chunks="$LEFT"
  local beside fetcher='' uploader=''
  beside=$(python_step bpcp.todo "$STATUS_DIR" --beside)
  if [[ $beside == *fetch* ]]; then
    start_fetcher "$slots"
    fetcher=$FETCHER
  fi
  if [[ $beside == *upload* ]]; then
    (run_python bpcp.upload "$STATUS_DIR") 9>&- &
    uploader=$!
  fi
  # exec and setpriv: when GNU parallel dies, however, each run-chunk is told
  PARALLEL_SHELL=/bin/bash setpriv --pdeathsig TERM -- parallel --plain --will-cite --quote \
    --jobs "$slots" --joblog "$JOBLOG" --termseq "$POOL_TERMSEQ" \
    --null --max-args 3 \
    exec setpriv --pdeathsig TERM -- '{1}' run-chunk '{2}' '{3}' \
    < <(printf '%s\0' "${tasks[@]}") > >(record "$verbose") 2>&1 &
  local pool=$! spot logs=''
  (run_python bpcp.spot "$$") 9>&- &
  spot=$!
  if [[ -n $LOG_GROUP ]]; then
    (run_python bpcp.cloudwatch "$STATUS_DIR" "--group=$LOG_GROUP" "${LOG_ACCESS[@]}") 9>&- &
    logs=$!
  fi
  if [[ -z $quiet ]]; then
    (run_python bpcp.progress "$STATUS_DIR") 9>&- &
    progress=$!
  fi
  local code=0
  await "$pool" || code=$?
  end_helper "$spot"
  end_helper "$progress"
  end_helper "$fetcher"
  end_helper "$uploader" # it sends the rest first
  event event=end parallel_status="$code" stopped="${STOPPED:-no}"
  end_helper "$logs"
}

# pack_chunks SLOTS -- compresses the chunks' tables, which are kept for the next merge only; that it
# can't is no failure of the run
pack_chunks() {
  PARALLEL_SHELL=/bin/bash parallel --plain --will-cite --null --no-run-if-empty --quote \
    --jobs "$1" -n 50 gzip -1 --force --synchronous -- \
    < <(run_python bpcp.todo "$STATUS_DIR" --tables) 2>>"$EVENTS" &
  await $! || event event=not_packed
}
