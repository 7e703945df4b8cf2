#!/usr/bin/env bats
# What bpcp images says of a folder, and the command that it proposes.
# shellcheck disable=SC2016,SC2154 # a hostile name; run sets stderr

setup() {
  bats_require_minimum_version 1.5.0
  export BATS_LIB_PATH=${BATS_LIB_PATH:-/usr/lib/bats}
  load "$BATS_LIB_PATH/bats-support/load"
  load "$BATS_LIB_PATH/bats-assert/load"
  root=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
  bpcp=$root/bin/bpcp
  export HOME=$BATS_TEST_TMPDIR/home TMPDIR=$BATS_TEST_TMPDIR/tmp COLUMNS=80 LINES=24
  source=$BATS_TEST_TMPDIR/'it'\''s; $(touch x) & "ü" `y`'
  mkdir -p "$HOME" "$TMPDIR" "$source" "$BATS_TEST_TMPDIR/cwd"
  cd "$BATS_TEST_TMPDIR/cwd" || return
}

teardown() {
  # nothing in a name may have been run as a command
  run find "$BATS_TEST_TMPDIR/cwd" -mindepth 1
  assert_output ''
}

@test "--explain needs no place to write to, and writes nothing" {
  touch "$source"/P_{A,B}0{1,2}_s1_w{1,2}.tif "$source/notes.txt"
  run --separate-stderr "$bpcp" images "$source" --explain
  assert_success
  assert_equal "$stderr" ''
  assert_line --index 0 'preset imagexpress: Molecular Devices ImageXpress, MetaXpress'
  assert_line --index 1 '  8 of 8 names fit'
  assert_line '    8  P      A01   1     w1         P_A01_s1_w1.tif'
  assert_line '    1  left out: .txt, not an image  notes.txt'
  assert_line '4 image sets, 1 plate, 4 wells; channels: w1, w2'
  run ! "$bpcp" images "$source/nothing" --explain
}

@test "the command that is proposed can be run as it stands" {
  touch "$source"/it\'s\ {DMSO,TNF-alpha}_{1,2}_{DAPI,GFP}.tif
  run --separate-stderr -65 "$bpcp" images "$source" --explain
  [[ $stderr == *'what named these images?'*'proposed, to be confirmed: --regex '* ]]
  proposed=$(sed -n '/^  bpcp images /,$p' <<<"$output")
  [[ $(tail -n 1 <<<"$proposed") == '    --regex '* ]]
  printf 'set -- %s\nshift\n"%s" "$@"\n' "$proposed" "$bpcp" >"$BATS_TEST_TMPDIR/again"
  run --separate-stderr bash "$BATS_TEST_TMPDIR/again"
  assert_success
  assert_line --index 1 '  given by --regex'
  assert_line --partial '4 image sets, 1 plate, 2 wells; channels: DAPI, GFP'
}
