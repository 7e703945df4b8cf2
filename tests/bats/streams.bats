#!/usr/bin/env bats
# Output that nobody reads, or that can't be written: it decides nothing about a run.
# shellcheck disable=SC2154 # screen.bash sets them

load screen

# ended_well -- asserts that a run is done, and that its exit code said so
ended_well() {
  assert_success
  assert [ -f "$analysis/Image.csv" ]
  assert_equal "$(wc -l <"$analysis/Image.csv")" 7
  assert_equal "$(ran)" 1
  rm -r "$base/status" "$base/analysis" "$base/log"
}

# over FUNCTION... -- runs the entry script with its streams as FUNCTION has them
over() {
  run "$@" "$entry" -d "$dataset" -p "$pipeline" -P 1 --chunk-size 9
}

no_stdin() { "$@" <&-; }
no_stdout() { "$@" >&-; }
no_stderr() { "$@" 2>&-; }
none() { "$@" <&- >&- 2>&-; }
full() { "$@" >/dev/full 2>/dev/full; }
nobody_reads() { "$@" 2> >(exec true); }
nobody_reads_both() { "$@" > >(exec true) 2>&1; }
two_lines() {
  set +o pipefail
  "$@" 2>&1 | head -2
  return "${PIPESTATUS[0]}"
}

@test "a run without a stream is done" {
  local how
  for how in no_stdin no_stdout no_stderr none; do
    over "$how"
    ended_well
  done
}

@test "a run whose words can't be written, or are read by nobody, is done" {
  local how
  for how in full nobody_reads nobody_reads_both two_lines; do
    over "$how"
    ended_well
  done
}

@test "-v over a stream that is full, and over one that nobody reads" {
  local how
  for how in full nobody_reads; do
    run "$how" "$entry" -v -d "$dataset" -p "$pipeline" -P 1 --chunk-size 9
    ended_well
  done
}

@test "what went wrong keeps its exit code" {
  local how
  for how in no_stdout no_stderr none full nobody_reads; do
    run "$how" "$entry" --nope
    assert_failure 64
    run "$how" "$entry" -d nope -p "$pipeline"
    assert_failure 66
    run "$how" "$bpcp" check "--dataset=$dataset" -p "$pipeline" --no-images --nope
    assert_failure 64
  done
  assert_equal "$(ran)" 0
}

@test "bpcp status without streams, and into a full disk" {
  over no_stdin
  assert_success
  local how
  for how in no_stdout no_stderr none nobody_reads nobody_reads_both; do
    run "$how" "$bpcp" status "--dataset=$dataset" -p "$pipeline"
    assert_success
  done
  # its table is what was asked for
  run --separate-stderr bash -c '"$@" >/dev/full' _ "$bpcp" status "--dataset=$dataset" -p "$pipeline"
  assert_failure 73
  [[ $stderr == *'No space left on device'* ]] || fail "$stderr"
}
