#!/usr/bin/env bats
# However a run is stopped: nothing that it started outlives it, and the same command goes on.
# shellcheck disable=SC2016,SC2030,SC2031,SC2154 # each test is a subshell of its own; names are hostile; screen.bash sets names

load screen

# says TEXT -- succeeds where the entry script said TEXT
says() {
  grep -qF -- "$1" "$BATS_TEST_TMPDIR/err"
}

# leave_strays -- lets each CellProfiler leave a process behind, in a session of its own
leave_strays() {
  local real=$BPCP_CELLPROFILER
  mkdir -p "$BATS_TEST_TMPDIR/bin"
  printf '#!/bin/bash\n[[ " $* " != *" -f "* ]] || { setsid sleep 300 >/dev/null 2>&1 & }\nexec %q "$@"\n' "$real" >"$BATS_TEST_TMPDIR/bin/stray"
  chmod +x "$BATS_TEST_TMPDIR/bin/stray"
  export BPCP_CELLPROFILER=$BATS_TEST_TMPDIR/bin/stray
}

# at_terminal ARG... -- starts the entry script at a terminal, with slow image sets, until one runs
at_terminal() {
  : >"$BATS_TEST_TMPDIR/keys"
  rm -f "$FAKE_JOURNAL"
  FAKE_MODE=slow FAKE_SLEEP=${slow:-60} env --default-signal=INT,HUP,TERM "$root/tests/fakes/terminal" "$BATS_TEST_TMPDIR/keys" "$BATS_TEST_TMPDIR/err" \
    "$entry" -d "$dataset" -p "$pipeline" --chunk-size 2 "$@" >/dev/null 2>&1 3>&- &
  started=$!
  until_true test -s "$FAKE_JOURNAL"
}

@test "TERM, INT and HUP stop it in good order; it goes on where it stopped" {
  local signal processes
  leave_strays
  for signal in TERM INT HUP; do
    # others are done before
    rm -rf "$base/status" "$base/analysis"
    FAKE_AT=f5.tif begin --grace-s 1
    until_true grep -q f5 "$FAKE_JOURNAL"
    until_true find_done
    mapfile -t processes < <(family "$started")
    assert [ "${#processes[@]}" -gt 3 ]
    kill -"$signal" "$started"
    ended
    assert_equal "$signal $code" "$signal 75"
    [[ $said == *'stopping: 1 chunk has 1 s to finish; Ctrl-C again ends them at once'* ]]
    [[ $said == *'go on with: '* ]]
    assert none_left "${processes[@]}"
    assert nothing_runs
    clean
    assert [ ! -e "$analysis/Image.csv" ]
  done
  goes_on
}

@test "chunks that were done before it was stopped do not run again" {
  slow=0.3 begin -P 1
  until_true find_done
  kill -TERM "$started"
  ended
  assert_equal "$code" 75
  goes_on
}

@test "chunks that run when it is stopped have time to finish, and no new ones start" {
  slow=1 begin -P 1 --grace-s 60
  kill -INT "$started"
  ended
  assert_equal "$code" 75
  assert_equal "$(ran)" 1
  assert_equal "$(find "$state/chunks" -name done.json | wc -l)" 1
  assert nothing_runs
  goes_on
}

@test "a second Ctrl-C ends it at once; a second hang-up does not" {
  begin --grace-s 600
  kill -HUP "$started"
  until_true says 'stopping: '
  kill -HUP "$started"
  sleep 1
  assert kill -0 "$started"
  local before=$SECONDS
  kill -INT "$started"
  ended
  assert_equal "$code" 75
  assert [ $((SECONDS - before)) -lt 10 ]
  assert nothing_runs
  clean
  assert_equal "$(grep -c 'stopping: ' <<<"$said")" 1
}

@test "--grace-s 0 gives no time; all but a number is 64" {
  local value
  for value in x -1 1.5 '' 5s; do
    go "--grace-s=$value"
    assert_failure 64
    [[ $stderr == *--grace-s* ]]
  done
  assert [ ! -e "$state" ]
  begin --grace-s 0
  kill -TERM "$started"
  ended
  assert_equal "$code" 75
  [[ $said != *'stopping: '* ]]
  assert nothing_runs
  clean
}

@test "stopped in GNU parallel's first moments, nothing is left" {
  local delay
  for delay in 0 0.05 0.1 0.15 0.2 0.3 0.5; do
    rm -rf "$base/status" "$base/log" "$base/analysis"
    FAKE_MODE=slow FAKE_SLEEP=60 env --default-signal=INT,HUP,TERM \
      "$entry" -d "$dataset" -p "$pipeline" --chunk-size 2 --grace-s 0 \
      >"$BATS_TEST_TMPDIR/out" 2>"$BATS_TEST_TMPDIR/err" 3>&- &
    started=$!
    until_true grep -qs event=start "$base/log/$dataset/measure/events.log"
    sleep "$delay"
    kill -INT "$started"
    ended
    assert_equal "$delay $code" "$delay 75"
    assert nothing_runs
    clean
  done
  go
  assert_success
  complete 6
}

@test "a signal that comes just before GNU parallel is waited for is heard, also where that is deaf" {
  cat >"$BATS_TEST_TMPDIR/script" <<'END'
source "$1/bin/lib/common.bash"
source "$1/bin/lib/pool.bash"
catch_signals
GRACE_S=0
perl -e '$SIG{HUP} = $SIG{TERM} = "IGNORE"; $| = 1; print "deaf\n"; sleep 300' >"$2" &
POOL=$!
until [[ -s $2 ]]; do sleep 0.05; done
set -T
trap '[[ $BASH_COMMAND != "wait \"\$POOL\"" || -n ${hit:-} ]] || { hit=1; kill -INT "$$"; }' DEBUG
code=0
await_pool || code=$?
echo "$STOPPED $code $hit"
END
  run timeout 60 bash "$BATS_TEST_TMPDIR/script" "$root" "$BATS_TEST_TMPDIR/said"
  assert_success
  assert_line 'INT 137 1'
}

@test "stopped or killed while it plans: nothing is left, and the next start runs" {
  local real=$BPCP_CELLPROFILER
  mkdir -p "$BATS_TEST_TMPDIR/bin"
  # asked about the pipeline, it takes its time
  printf '#!/bin/bash\ntouch %q\nsleep 60\n' "$BATS_TEST_TMPDIR/asked" >"$BATS_TEST_TMPDIR/bin/slow"
  chmod +x "$BATS_TEST_TMPDIR/bin/slow"
  BPCP_CELLPROFILER=$BATS_TEST_TMPDIR/bin/slow env --default-signal=INT "$entry" -d "$dataset" -p "$pipeline" \
    >"$BATS_TEST_TMPDIR/out" 2>"$BATS_TEST_TMPDIR/err" 3>&- &
  started=$!
  until_true test -e "$BATS_TEST_TMPDIR/asked"
  kill -INT "$started"
  ended
  assert_equal "$code" 75
  assert nothing_runs
  # kill -9 there, too, and the next start finds nothing in its way
  rm "$BATS_TEST_TMPDIR/asked"
  BPCP_CELLPROFILER=$BATS_TEST_TMPDIR/bin/slow "$entry" -d "$dataset" -p "$pipeline" \
    >"$BATS_TEST_TMPDIR/out" 2>"$BATS_TEST_TMPDIR/err" 3>&- &
  started=$!
  until_true test -e "$BATS_TEST_TMPDIR/asked"
  kill -KILL "$started"
  ended
  assert_equal "$code" 137
  go
  assert_success
  assert nothing_runs
  complete 6
}

@test "Ctrl-C at a terminal: chunks have time, the terminal is as it was" {
  slow=1 at_terminal -P 1 --grace-s 60
  printf '\003' >>"$BATS_TEST_TMPDIR/keys"
  ended
  assert_equal "$code" 75
  assert says 'stopping: 1 chunk has 60 s to finish'
  says 'stopped: 2 of 6 image sets done, 4 left'
  assert nothing_runs
  goes_on
}

@test "a second Ctrl-C at a terminal ends it at once" {
  at_terminal --grace-s 600
  printf '\003' >>"$BATS_TEST_TMPDIR/keys"
  until_true says 'stopping: '
  printf '\003' >>"$BATS_TEST_TMPDIR/keys"
  ended
  assert_equal "$code" 75
  says 'go on with: '
  assert nothing_runs
  clean
}

@test "a closed terminal stops it in good order" {
  at_terminal --grace-s 1
  printf 'close' >>"$BATS_TEST_TMPDIR/keys"
  ended
  assert_equal "$code" 75
  assert nothing_runs
  clean
  tail -n 1 "$base/log/$dataset/measure/events.log" | grep -q 'event=closed exit=75'
  go
  assert_success
  complete 6
}

@test "a closed terminal leaves chunks their time, too" {
  slow=1 at_terminal -P 1 --grace-s 60 -v
  printf 'close' >>"$BATS_TEST_TMPDIR/keys"
  ended
  assert_equal "$code" 75
  assert_equal "$(find "$state/chunks" -name done.json | wc -l)" 1
  assert nothing_runs
  goes_on
}

@test "kill -9 of the entry script ends all that it started" {
  leave_strays
  killed run_analysis_pipeline.sh
  ended
  assert_equal "$code" 137
  until_true none_left "${processes[@]}"
  until_true nothing_runs
  goes_on
}

@test "kill -9 of the entry script, and the same command at once" {
  leave_strays
  killed run_analysis_pipeline.sh
  ended
  export BPCP_CELLPROFILER=$root/tests/fakes/cellprofiler
  goes_on
  until_true none_left "${processes[@]}"
  assert nothing_runs
}

@test "kill -9 of the entry script, when somebody has stopped the guard: it ends all that it started" {
  leave_strays
  begin -P 2
  until_true sees bpcp.chunk
  local chunk=$victim
  until_true sees bpcp.run.guard
  kill -STOP "$victim"
  kill -KILL "$started"
  ended
  assert_equal "$code" 137
  until_true none_left "$chunk" "$victim"
  until_true nothing_runs
}

@test "the guard of a run that is told to go on, though nobody stopped it, lets it run" {
  slow=1 begin -P 2
  until_true sees bpcp.chunk
  until_true sees bpcp.run.guard
  kill -CONT "$victim"
  ended
  assert_equal "$code" 0
  complete 6
  assert nothing_runs
}

@test "kill -9 of the entry script and the guard, with a run-chunk stopped: the next start clears it away" {
  leave_strays
  begin -P 2
  until_true sees bpcp.chunk
  local chunk=$victim
  until_true sees bpcp.run.guard
  kill -STOP "$chunk"
  kill -KILL "$victim" "$started"
  ended
  # it holds the lock, and does not hear what it is told
  assert kill -0 "$chunk"
  export BPCP_CELLPROFILER=$root/tests/fakes/cellprofiler
  go
  assert_success
  complete 6
  clean
  assert none_left "$chunk"
  assert nothing_runs
}

@test "kill -9 of GNU parallel ends its chunks; 75" {
  leave_strays
  killed 'parallel --plain'
  ended
  assert_equal "$code" 75
  says 'GNU parallel ended with 137'
  until_true none_left "${processes[@]}"
  assert nothing_runs
  goes_on
}

@test "kill -9 of a run-chunk ends its CellProfiler, and not the others; its chunk runs again" {
  leave_strays
  slow=1 begin -P 1
  until_true has_run 2
  until_true sees bpcp.chunk
  kill -KILL "$victim"
  ended
  assert_equal "$code" 0
  # three, and the one that was killed
  assert_equal "$(ran)" 4
  run grep -c 'event=again chunks=1' "$base/log/$dataset/measure/events.log"
  assert_output 1
  assert nothing_runs
  complete 6
  clean
}

@test "a run-chunk that is killed again and again is left for the next start; 75" {
  mkdir -p "$BATS_TEST_TMPDIR/bin"
  # whoever runs f3.tif kills the process that started it
  cat >"$BATS_TEST_TMPDIR/bin/kills" <<'END'
#!/bin/bash
for word in "$@"; do
  [[ $word != */chunks/*/images.csv || $* == *--measurements* ]] || ! grep -q f3.tif "$word" || kill -KILL "$PPID"
done
exec "$REAL" "$@"
END
  export REAL=$BPCP_CELLPROFILER
  chmod +x "$BATS_TEST_TMPDIR/bin/kills"
  BPCP_CELLPROFILER=$BATS_TEST_TMPDIR/bin/kills go
  assert_failure 75
  [[ $stderr == *'stopped: 4 of 6 image sets done, 2 left'*'go on with: '* ]]
  assert nothing_runs
  run grep -c event=again "$base/log/$dataset/measure/events.log"
  assert_output 1
}

@test "image sets that failed are no reason to run their chunk again" {
  FAKE_MODE=module-error FAKE_AT=f3.tif go
  assert_failure 1
  run grep -c event=again "$base/log/$dataset/measure/events.log"
  assert_output 0
}

@test "kill -9 of a CellProfiler is mended on the spot" {
  leave_strays
  killed fakes/cellprofiler
  ended
  assert_equal "$code" 0
  # its chunk was tried twice
  assert_equal "$(grep -h '"attempts"' "$state"/chunks/*/done.json | sort | paste -sd' ')" \
    '  "attempts": 1,   "attempts": 1,   "attempts": 2,'
  complete 6
  clean
  assert nothing_runs
}

@test "a run-chunk that somebody stopped is ended in time, and its chunk runs again" {
  slow=1 begin -P 1 --stall-min 0.1
  until_true sees bpcp.chunk
  kill -STOP "$victim"
  ended
  assert_equal "$code" 0
  run grep -c "event=stalled run_chunk=$victim" "$base/log/$dataset/measure/events.log"
  assert_output 1
  complete 6
  clean
  assert nothing_runs
}

@test "helpers that somebody stopped do not keep a run from its end" {
  local name
  slow=1 begin
  for name in bpcp.run.progress bpcp.run.spot bpcp.run.guard; do
    if sees "$name"; then
      kill -STOP "$victim"
    fi
  done
  ended
  assert_equal "$code" 0
  complete 6
  assert nothing_runs
}

@test "GNU parallel that somebody stopped hears Ctrl-C all the same" {
  begin --grace-s 0
  until_true sees 'parallel --plain'
  kill -STOP "$victim"
  kill -INT "$started"
  ended
  assert_equal "$code" 75
  assert nothing_runs
  clean
}

@test "a process beside the run that ignores TERM is killed" {
  local pid before
  # shellcheck source=bin/lib/common.bash
  source "$root/bin/lib/common.bash"
  # shellcheck source=bin/lib/pool.bash
  source "$root/bin/lib/pool.bash"
  HELPER_PATIENCE=20
  (
    trap '' TERM
    exec sleep 60
  ) 3>&- &
  pid=$!
  sleep 0.2
  end_helper "$pid"
  assert none_left "$pid"
  # one that is given its time is not, as long as it goes on
  (
    trap 'sleep 4; exit 0' TERM
    while :; do sleep 0.1; done
  ) 3>&- &
  pid=$!
  sleep 0.2
  before=$SECONDS
  end_helper "$pid" patiently
  assert [ $((SECONDS - before)) -ge 3 ]
}

@test "a second start while one runs is 75 and names the holder" {
  begin
  go
  assert_failure 75
  [[ $stderr == *"another process is at work on this run: process $started on $(uname -n), since 20"*' s ago)'* ]]
  [[ $stderr == *"wait for it, or end it (kill $started); the lock goes with it"* ]]
  run --separate-stderr "$bpcp" merge --dataset="$dataset" -p "$pipeline"
  assert_failure 75
  [[ $stderr == *"another process is at work on this run: process $started on $(uname -n)"* ]]
  # asking how far it is does not disturb
  run "$bpcp" status --dataset="$dataset" -p "$pipeline"
  assert_failure 75
  assert_output --partial 'running'
  kill -TERM "$started"
  ended
  assert_equal "$code" 75
  assert_equal "$(cat "$BATS_TEST_TMPDIR/out")" ''
}

@test "two starts at once: one runs, the other is refused" {
  local first second codes
  FAKE_MODE=slow FAKE_SLEEP=3 "$entry" -d "$dataset" -p "$pipeline" --chunk-size 2 -q 2>"$BATS_TEST_TMPDIR/err" 3>&- &
  first=$!
  FAKE_MODE=slow FAKE_SLEEP=3 "$entry" -d "$dataset" -p "$pipeline" --chunk-size 2 -q 2>>"$BATS_TEST_TMPDIR/err" 3>&- &
  second=$!
  codes=0
  wait "$first" || codes=$((codes + $?))
  wait "$second" || codes=$((codes + $?))
  assert_equal "$codes" 75
  says 'another process is at work on this run: process '
  complete 6
  assert_equal "$(ran)" 3
}

@test "a chunk that somebody runs by hand is not ended with the run" {
  go --dry-run
  run "$bpcp" plan --dataset="$dataset" -p "$pipeline" --chunk-size 2 -q
  assert_success
  local chunk by_hand
  chunk=$(find "$state/chunks" -mindepth 1 -maxdepth 1 -printf '%f\n' | head -n 1)
  FAKE_MODE=slow FAKE_SLEEP=6 "$bpcp" run-chunk "$state" "$chunk" >/dev/null 2>&1 3>&- &
  by_hand=$!
  until_true test -s "$FAKE_JOURNAL"
  go
  assert_failure 75
  wait "$by_hand"
  assert_equal "$(ran)" 3
  assert nothing_runs
}

@test "a pipeline that fails at every image set is stopped after the first chunks" {
  screen 24
  FAKE_MODE=exception go -P 1
  assert_failure 1
  [[ $stderr == *'given up: not one image set of the first '* ]]
  run python3 -c 'import json, sys
found = json.load(open(sys.argv[1]))
print(found["why"]); assert found["failed"] >= 10' "$state/halted.json"
  assert_output --regexp '^not one image set of the first ([5-9]|1[01]) chunks succeeded: IdentifyPrimaryObjects: ValueError'
  assert [ "$(find "$state/chunks" -name done.json | wc -l)" -lt 12 ]
  assert nothing_runs
  clean
  # so it is where only the chunks are run
  FAKE_MODE=exception run --separate-stderr "$bpcp" run --dataset="$dataset" -p "$pipeline" -P 1
  assert_failure 1
  [[ $stderr == *'given up: not one image set of the first '* ]]
  # mended, it goes on, and no word is left of it
  go
  assert_success
  complete 24
  assert [ ! -e "$state/halted.json" ]
}

@test "--max-failures 100% lets it go on; N and P% stop it" {
  screen 12
  FAKE_MODE=exception go -P 1 --max-failures 100%
  assert_failure 1
  assert [ ! -e "$state/halted.json" ]
  assert_equal "$(find "$state/chunks" -name done.json | wc -l)" 6
  local limit
  for limit in 3 25%; do
    rm -rf "$base/status"
    FAKE_MODE=slow FAKE_SLEEP=0.5 go -P 1 --max-failures "$limit"
    assert_success
    rm -rf "$base/status"
    FAKE_MODE=exception go -P 1 "--max-failures=$limit"
    assert_failure
    run cat "$state/halted.json"
    assert_output --regexp "\"why\": \"[3-9] of 12 image sets failed \\(--max-failures $limit\\): Identify"
    assert [ "$(find "$state/chunks" -name done.json | wc -l)" -lt 6 ]
  done
}

@test "files that are missing stop nothing" {
  screen 16
  local i
  for ((i = 1; i <= 10; i++)); do
    rm "$base/images & more/f$i.tif"
  done
  FAKE_MODE=slow FAKE_SLEEP=0.5 go -P 1
  assert_failure 1
  complete 6
  assert [ ! -e "$state/halted.json" ]
}

@test "a wrong --max-failures is 64, and nothing is made" {
  local value
  for value in x 0 -1 1.5 0% 101% 5%% % ' ' '1 2' '$(touch x)'; do
    go "--max-failures=$value"
    assert_failure 64
    [[ $stderr == *"--max-failures $value: neither a number of image sets nor a share of them"*'50, 5%'* ]] || fail "$stderr"
  done
  go --max-failures
  assert_failure 64
  assert [ ! -e "$state" ]
}

@test "a number that another program has by now is not ended" {
  # shellcheck source=bin/lib/pool.bash
  source "$root/bin/lib/pool.bash"
  # a child of a child that ended is nobody's here
  local other
  other=$(sleep 60 >/dev/null 2>&1 3>&- & echo "$!")
  refute is_child "$other"
  end_helper "$other"
  kill -0 "$other"
  sleep 60 3>&- &
  assert is_child "$!"
  end_helper "$!"
  refute is_child "$!"
  kill "$other"
}

@test "a TMPDIR that is full ends nothing; one that is not there is 73" {
  TMPDIR=$BATS_TEST_TMPDIR/nowhere go
  assert_failure 73
  [[ $stderr == *"can't write to TMPDIR: $BATS_TEST_TMPDIR/nowhere"* ]]
  mkdir "$BATS_TEST_TMPDIR/full"
  mount -t tmpfs -o size=64k none "$BATS_TEST_TMPDIR/full" 2>/dev/null || skip "only root can fill a disk here"
  head -c 1M /dev/zero >"$BATS_TEST_TMPDIR/full/x" 2>/dev/null || :
  TMPDIR=$BATS_TEST_TMPDIR/full go
  umount "$BATS_TEST_TMPDIR/full"
  assert_success
  complete 6
}

@test "what writes events down is ended with the run, also where somebody stopped it" {
  local pid
  slow=1 begin -P 1
  until_true sees record.bash
  pid=$victim
  kill -STOP "$pid"
  ended
  assert_equal "$code" 0
  assert none_left "$pid"
  assert nothing_runs
  complete 6
}
