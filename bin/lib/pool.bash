# Running a plan: the lock, GNU parallel over `bpcp run-chunk`, signals, and
# the closing words. Sourced by the entry scripts, bpcp-run and bpcp-retry.
#
# Success is what the chunks' own verdicts say, never GNU parallel's exit
# status: it counts failed jobs, and after a hang-up it is 0 with jobs that
# never ran.

# GNU parallel gives a chunk this long to end its CellProfiler and clear away
POOL_TERMSEQ=TERM,5000,KILL,25
HELPER_PATIENCE=200 # how long a process beside the run has to end, in tenths of a second

STOPPED=''      # the signal that ended this start early
CHILD=''        # what is being waited for
POOL=''         # GNU parallel, while it runs
PACE=''         # how it is stopped: drain, grace, end, kill; '' while it is not
TICKS=0         # tenths of a second until the next of these
GRACE_S=5       # how long chunks have to finish when the run is stopped
MAX_FAILURES='' # how many image sets may fail before it is; '' where the first chunks tell
GUARD=''        # the process that sees to it that nothing outlives the run
ONLY_FAILED=''  # whether only chunks with image sets that failed are run
LEFT=0          # how many chunks were left to run
TERMINAL=''     # whether there is one to write to
LOG_GROUP=''    # the CloudWatch log group that events are sent to
LOG_ACCESS=()   # how it is reached
AT_EXIT=()      # functions to call at the end, however it comes

# until catch_signals, nothing is begun
trap 'exit 130' INT

# need_tools -- refuses to start where a tool, or a place, that every run needs is missing
need_tools() {
  local tool missing=()
  for tool in parallel flock setpriv setsid gzip; do
    command -v "$tool" >/dev/null || missing+=("$tool")
  done
  if [[ ${#missing[@]} -gt 0 ]]; then
    die 69 "missing: ${missing[*]}" "$BPCP_ROOT/ami_setup/install.sh"
  fi
  if [[ ! -d ${TMPDIR:-/tmp} || ! -w ${TMPDIR:-/tmp} ]]; then
    die 73 "can't write to TMPDIR: ${TMPDIR:-/tmp}" "let TMPDIR name a folder that is there, or unset it"
  fi
  if ! parallel --version 2>/dev/null | grep -q '^GNU parallel'; then
    die 69 "$(command -v parallel) is not GNU parallel" "remove moreutils' parallel, then: $BPCP_ROOT/ami_setup/install.sh"
  fi
}

# slots_of JOBS DATASET PIPELINE [QUIET] -- prints how many processes to start: what GNU parallel's -P
# JOBS means here, or, where JOBS is empty, as many as there are cores and as memory carries
slots_of() {
  # nothing is begun: Ctrl-C ends it
  run_python bpcp.slots "--jobs=$1" "--dataset=$2" "--pipeline=$3" ${4:+-q}
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
  local file
  for file in "$LOCK" "$JOBLOG" "$EVENTS" "$FETCHING"; do
    if [[ -L $file ]]; then
      die 77 "$file is a link; bpcp would write over what it leads to" "find out who made it, and remove it"
    fi
  done
  if ! mkdir -p -- "$STATUS_DIR" "$LOG_DIR" 2>/dev/null; then
    die 73 "can't make $STATUS_DIR" "make it writable, or copy the pipeline into a folder of your own"
  fi
}

# open_planned DATASET PIPELINE -- as open_run, of a run that was planned before
open_planned() {
  open_run "$1" "$2"
  if [[ ! -e $STATUS_DIR/run.json ]]; then
    rmdir -p --ignore-fail-on-non-empty -- "$STATUS_DIR" "$LOG_DIR"
    die 66 "nothing is planned for $1 and $2" "bpcp plan --dataset=$1 --pipeline=$2"
  fi
}

# take_lock -- becomes the one writer of the run; the lock ends with this process and its children
take_lock() {
  if ! : 2>/dev/null >>"$LOCK"; then
    die 77 "can't write $LOCK" "it belongs to somebody else: $(stat -c %U -- "$LOCK" 2>/dev/null)"
  fi
  exec 9>>"$LOCK"
  (run_python bpcp.run.enter "$STATUS_DIR" --handle 9 --pid "$$")
  export BPCP_LOCK_HELD=$LOCK
  # by this mark everything that comes of this start is known; see bpcp/processes.py
  export BPCP_RUN=$STATUS_DIR
}

# start_guard -- lets a process see to it that nothing outlives the run, and that a hopeless one ends
start_guard() {
  # it hears USR1 alone, and that once it listens
  (
    trap '' INT TERM HUP USR1
    run_python bpcp.run.guard "$STATUS_DIR" --run-pid "$$" ${MAX_FAILURES:+"--max-failures=$MAX_FAILURES"}
  ) 9>&- &
  GUARD=$!
  AT_EXIT+=(end_guard)
  trap at_exit EXIT
}

# nap TICK -- sleeps for a tenth of a second; the first few times for less
nap() {
  if [[ $1 -lt 10 ]]; then
    sleep 0.02 || :
  else
    sleep 0.1 || :
  fi
}

# is_child PID -- tells whether a process is still a child of this one; one that ended was waited for
# at once, and its number may be another program's by now
is_child() {
  local line
  { read -r line <"/proc/$1/stat"; } 2>/dev/null || return 1
  line=${line##*) }
  [[ ${line#* } == "$$ "* ]]
}

# end_guard -- lets the guard end what is left of the run, and waits for it
end_guard() {
  local tick
  # what is started from now on is not the guard's to end
  unset BPCP_RUN
  # longer than it takes to end what doesn't listen
  for ((tick = 0; tick < 250; tick++)); do
    is_child "$GUARD" || break
    kill -USR1 "$GUARD" 2>/dev/null || :
    kill -CONT "$GUARD" 2>/dev/null || :
    nap "$tick"
  done
  ! is_child "$GUARD" || kill -KILL "$GUARD" 2>/dev/null || :
  wait "$GUARD" 2>/dev/null || :
}

# at_exit -- does what is to be done at the end, however it comes
at_exit() {
  local action
  for action in "${AT_EXIT[@]}"; do
    "$action"
  done
}

# event KEY=VALUE... -- writes down what happened
event() {
  # a full disk must not end the run
  printf 'time=%s %s\n' "$(TZ=UTC printf '%(%Y-%m-%dT%H:%M:%SZ)T' -1)" "$*" >>"$EVENTS" || :
}

# python_step MODULE ARG... -- runs a module of the package, for a moment: Ctrl-C is heard afterwards
python_step() {
  (
    trap '' INT HUP
    run_python "$@"
  )
}

# on_signal NAME -- stops what runs: kindly the first time, at once the second
on_signal() {
  local before=$STOPPED
  [[ $PACE != drain ]] || before=''
  if [[ $1 == HUP ]]; then
    # one hang-up may come twice; and nobody reads any more
    [[ -z $before ]] || return 0
    [[ -z $TERMINAL || -t 2 ]] || exec 2>/dev/null
  fi
  STOPPED=$1
  if [[ -n $POOL && $CHILD == "$POOL" ]]; then
    stop_pool
  elif [[ -n $CHILD && -z $before ]]; then
    kill -TERM "$CHILD" 2>/dev/null
  elif [[ -n $CHILD ]]; then
    kill -KILL "$CHILD" 2>/dev/null
  fi
  return 0
}

# on_notice -- starts no new chunks; those that run go on
on_notice() {
  if [[ -z $STOPPED ]]; then
    STOPPED=SPOT
    if [[ -n $POOL ]]; then
      PACE=drain
      signal_pool HUP
    fi
  fi
  return 0
}

# on_end NAME -- ends the chunks that run: there is no time, or no point
on_end() {
  if [[ -n $POOL ]]; then
    STOPPED=$1
    [[ $PACE == end || $PACE == kill ]] || end_pool
  fi
  return 0
}

# catch_signals -- lets Ctrl-C, TERM, a hang-up, a spot notice and the guard end the run in good order
catch_signals() {
  [[ ! -t 2 ]] || TERMINAL=1
  trap : ALRM
  trap on_notice USR1
  trap 'on_end SPOT' USR2
  trap 'on_end FAILURES' RTMIN
  trap 'on_signal INT' INT
  trap 'on_signal TERM' TERM
  trap 'on_signal HUP' HUP
}

# signal_pool NAME -- sends GNU parallel a signal, which it hears also when somebody has stopped it
signal_pool() {
  kill -"$1" "$POOL" 2>/dev/null || :
  kill -CONT "$POOL" 2>/dev/null || :
  # what made us do so may have come just before a `wait` began, which then goes on and on
  (
    trap '' INT TERM HUP
    sleep 0.3
    ! is_child "$BASHPID" || kill -ALRM "$$"
  ) 9>&- 2>/dev/null &
}

# stop_pool -- starts no new chunks and gives those that run their time; the second time ends them
stop_pool() {
  local line=''
  case $PACE in
    '' | drain)
      if [[ $GRACE_S -eq 0 ]]; then
        end_pool
        # in a trap, a return by itself would give what the signal interrupted gave
        return 0
      fi
      PACE=grace TICKS=$((GRACE_S * 10))
      signal_pool HUP
      # a progress line, and ^C, may stand there
      [[ -z $TERMINAL ]] || line=$'\n'
      say "${line}stopping: $(running_chunks) $GRACE_S s to finish; Ctrl-C again ends them at once"
      ;;
    grace) end_pool ;;
    *) kill_pool ;;
  esac
}

# end_pool -- lets GNU parallel end its chunks
end_pool() {
  PACE=end TICKS=100
  # before its first job it is deaf to TERM, and HUP ends it
  signal_pool HUP
  signal_pool TERM
}

# kill_pool -- ends GNU parallel; its chunks are told by the kernel, and what is left then by the guard
kill_pool() {
  PACE=kill TICKS=100
  kill -KILL "$POOL" 2>/dev/null || :
}

# running_chunks -- prints how many chunks run, with a verb
running_chunks() {
  local children=() child name own count=0
  own=$(cat /proc/$$/comm 2>/dev/null) || :
  read -ra children 2>/dev/null <"/proc/$POOL/task/$POOL/children" || :
  for child in "${children[@]}"; do
    name=$(cat "/proc/$child/comm" 2>/dev/null) || continue
    # GNU parallel counts processes by starting some; and what records its words is a child of it, too
    if [[ $name != sleep && $name != "$own" && $name != record.bash ]]; then
      count=$((count + 1))
    fi
  done
  case $count in
    0) printf 'what runs has' ;;
    1) printf '1 chunk has' ;;
    *) printf '%d chunks have' "$count" ;;
  esac
}

# await PID -- waits for a child to its end, also across signals; returns its exit code
await() {
  local code
  CHILD=$1
  while :; do
    code=0
    wait "$1" || code=$?
    is_child "$1" || break
  done
  CHILD=''
  return "$code"
}

# await_pool -- waits for GNU parallel to its end, and sees to it that it comes in time where it was
# told to stop; returns its exit code
await_pool() {
  local code=0
  CHILD=$POOL
  # a signal may have come before there was a pool to tell
  [[ -z $STOPPED || -n $PACE ]] || end_pool
  while is_child "$POOL"; do
    code=0
    if [[ -z $PACE || $PACE == drain ]]; then
      wait "$POOL" || code=$?
    else
      sleep 0.1 || :
      TICKS=$((TICKS - 1))
      if [[ $TICKS -gt 0 ]]; then
        continue
      elif [[ $PACE == grace ]]; then
        end_pool
      else
        kill_pool
      fi
    fi
  done
  [[ -z $PACE ]] || wait "$POOL" 2>/dev/null || code=$?
  CHILD='' POOL=''
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

# end_helper PID [PATIENTLY] -- ends a process beside the run, and waits for it; its exit code is its
# own affair. One that doesn't listen is killed after a while; PATIENTLY, only where it is stopped.
end_helper() {
  local tick=0 waited=0
  [[ -n $1 ]] || return 0
  CHILD=$1
  ! is_child "$1" || kill -TERM "$1" 2>/dev/null || :
  while is_child "$1" && [[ $waited -lt $HELPER_PATIENCE ]]; do
    kill -CONT "$1" 2>/dev/null || :
    nap "$tick"
    tick=$((tick + 1))
    if [[ -z ${2:-} || "$(cat "/proc/$1/stat" 2>/dev/null)" == *') T '* ]]; then
      waited=$((waited + 1))
    fi
  done
  ! is_child "$1" || [[ $waited -lt $HELPER_PATIENCE ]] || kill -KILL "$1" 2>/dev/null || :
  await "$1" 2>/dev/null || :
}

# pool_tmpdir -- prints where GNU parallel puts its temporary files: it ends itself, and all chunks,
# where it finds that place full
pool_tmpdir() {
  if [[ -d /dev/shm && -w /dev/shm ]]; then
    printf '/dev/shm\n'
  else
    printf '%s\n' "${TMPDIR:-/tmp}"
  fi
}

# launch SLOTS JOBLOG VERBOSE ID... -- starts GNU parallel over chunks; sets POOL
launch() {
  local slots=$1 joblog=$2 verbose=$3 id tasks=()
  for id in "${@:4}"; do
    # all are given as input: GNU parallel would replace a {} that stands in the command
    tasks+=("TMPDIR=${TMPDIR:-/tmp}" "$BPCP_ROOT/bin/bpcp" "$STATUS_DIR" "$id")
  done
  # exec and setpriv: when GNU parallel dies, however, each run-chunk is told; setsid: a terminal's
  # Ctrl-C is for the entry script alone, which gives chunks their time; env: they keep the user's
  # TMPDIR
  PARALLEL_SHELL=/bin/bash setpriv --pdeathsig TERM -- setsid parallel --plain --will-cite --quote \
    --jobs "$slots" --joblog "$joblog" --termseq "$POOL_TERMSEQ" \
    --tmpdir "$(pool_tmpdir)" --null --max-args 4 \
    exec env '{1}' setpriv --pdeathsig TERM -- '{2}' run-chunk '{3}' '{4}' \
    < <(printf '%s\0' "${tasks[@]}") > >(exec "$BPCP_ROOT/bin/lib/record.bash" "$EVENTS" "$verbose" 9>&-) 2>&1 &
  POOL=$!
}

# run_pool SLOTS QUIET [VERBOSE] -- runs what is left of the plan; sets LEFT to how many chunks that
# were; VERBOSE shows each event as it is written down
run_pool() {
  local slots=$1 quiet=$2 verbose=${3:-} ids since said
  [[ -z $STOPPED ]] || return 0
  ids=$(python_step bpcp.run.todo "$STATUS_DIR" ${ONLY_FAILED:+--failed})
  # shellcheck disable=SC2086 # chunk ids are plain words
  set -- $ids
  LEFT=$#
  [[ $LEFT -gt 0 ]] || return 0
  since=$EPOCHSECONDS
  event event=start slots="$slots" chunks="$LEFT"
  local beside fetcher='' uploader='' progress='' spot logs='' code=0
  beside=$(python_step bpcp.run.todo "$STATUS_DIR" --beside)
  if [[ $beside == *fetch* ]]; then
    start_fetcher "$slots"
    fetcher=$FETCHER
  fi
  if [[ $beside == *upload* ]]; then
    (run_python bpcp.upload "$STATUS_DIR") 9>&- &
    uploader=$!
  fi
  launch "$slots" "$JOBLOG" "$verbose" "$@"
  (run_python bpcp.run.spot "$$") 9>&- &
  spot=$!
  if [[ -n $LOG_GROUP ]]; then
    (run_python bpcp.run.cloudwatch "$STATUS_DIR" "--group=$LOG_GROUP" "${LOG_ACCESS[@]}") 9>&- &
    logs=$!
  fi
  if [[ -z $quiet ]]; then
    (run_python bpcp.run.progress "$STATUS_DIR") 9>&- &
    progress=$!
  fi
  await_pool || code=$?
  # GNU parallel counts failed jobs up to 101; more than that, and it was killed itself
  if [[ -z $STOPPED && $code -ge 1 && $code -le 101 ]]; then
    ids=$(printf '%s\n' "$@" | python_step bpcp.run.lost "$STATUS_DIR" --since "$since")
    if [[ -n $ids && -z $STOPPED ]]; then
      # their run-chunk was killed: once more
      event event=again chunks="$(wc -w <<<"$ids")"
      # shellcheck disable=SC2086
      launch "$slots" "+$JOBLOG" "$verbose" $ids
      code=0
      await_pool || code=$?
    fi
  fi
  if [[ -z $STOPPED && $code -gt 101 ]]; then
    # what it said in this start
    said=$(awk '/ event=start /{said = ""} /^parallel: /{said = ": " $0} END {print said}' "$EVENTS") || :
    say "GNU parallel ended with $code${said:-}"
  fi
  end_helper "$spot"
  end_helper "$progress"
  end_helper "$fetcher"
  end_helper "$uploader" patiently # it sends the rest first
  event event=end parallel_status="$code" stopped="${STOPPED:-no}"
  end_helper "$logs"
}

# pack_chunks SLOTS -- compresses the chunks' tables, which are kept for the next merge only; that it
# can't is no failure of the run
pack_chunks() {
  PARALLEL_SHELL=/bin/bash parallel --plain --will-cite --null --no-run-if-empty --quote \
    --tmpdir "$(pool_tmpdir)" --jobs "$1" -n 50 gzip -1 --force --synchronous -- \
    < <(run_python bpcp.run.todo "$STATUS_DIR" --tables) 2>>"$EVENTS" &
  await $! || event event=not_packed
}
