#!/usr/bin/env bats
# The RAM disk of a run's own: made, used, and gone at every kind of end.
# shellcheck disable=SC2030,SC2031,SC2154 # each test is a subshell of its own; screen.bash sets names

load screen

# mounted -- succeeds where the run's RAM disk is mounted
mounted() {
  mountpoint -q -- "$state/ramdisk"
}

# gone -- succeeds where nothing is left of it
gone() {
  [[ ! -e $state/ramdisk && ! -L $state/ramdisk ]] && ! grep -qF "$BATS_TEST_TMPDIR" /proc/self/mountinfo
}

need_root() {
  if [[ $(id -u) -ne 0 ]]; then
    skip 'only root can mount'
  fi
}

# without_mount -- lets nobody mount: neither root nor a sudo that works
without_mount() {
  mkdir -p "$BATS_TEST_TMPDIR/bin"
  printf '#!/bin/sh\nexit 32\n' | tee "$BATS_TEST_TMPDIR/bin/mount" >"$BATS_TEST_TMPDIR/bin/sudo"
  chmod +x "$BATS_TEST_TMPDIR/bin/"*
  PATH=$BATS_TEST_TMPDIR/bin:$PATH
}

# private -- prints the private folder in /dev/shm that stands for the RAM disk
private() {
  readlink -- "$state/ramdisk"
}

@test "processes work on a RAM disk, with their images, and it is gone afterwards" {
  need_root
  begin --ramdisk 400M
  until_true mounted
  assert_equal "$(stat -c '%a %u' -- "$state/ramdisk")" "700 $(id -u)"
  run findmnt -n -o SIZE,FSTYPE --mountpoint "$state/ramdisk"
  assert_output --regexp '400M +tmpfs'
  run python3 -c 'import json, sys; print(json.loads(sys.stdin.readline())["data_file"])' <"$FAKE_JOURNAL"
  assert_output --partial "/ramdisk/bpcp-"
  run find "$state/ramdisk" -name 'f1.tif' -type f
  assert_output --partial "/ramdisk/bpcp-images-"
  kill -TERM "$started"
  ended
  assert_equal "$code" 75
  gone
  go --ramdisk auto
  assert_success
  complete 6
  clean
  gone
  # no trace of where it was read
  run grep -c ramdisk "$analysis/Image.csv"
  assert_output 0
}

@test "a result from a RAM disk is the one from disk" {
  go
  assert_success
  cp -r "$analysis" "$BATS_TEST_TMPDIR/disk"
  rm -rf "$base/status" "$analysis"
  go --ramdisk 400M
  assert_success
  run "$bpcp" compare "$BATS_TEST_TMPDIR/disk" "$analysis"
  assert_success
}

@test "kill -9 of the entry script: the RAM disk goes with the last process" {
  need_root
  begin --ramdisk 8M
  until_true mounted
  kill -KILL "$started"
  wait "$started" || true
  started=
  until_true gone
  go
  assert_success
}

@test "kill -9 of everything: the next start clears it away" {
  need_root
  begin --ramdisk 8M
  until_true mounted
  local processes
  mapfile -t processes < <(family "$started")
  kill -KILL "${processes[@]}" 2>/dev/null || true
  wait "$started" || true
  started=
  until_true none_left "${processes[@]}"
  # as after a power cut, with the mount still there
  mounted || { mkdir -p "$state/ramdisk" && mount -t tmpfs -o size=1M bpcp "$state/ramdisk"; }
  go --ramdisk 8M
  assert_success
  gone
}

@test "who may not mount gets a private folder in /dev/shm, and it goes too" {
  without_mount
  begin --ramdisk 8M
  until_true test -L "$state/ramdisk"
  local folder
  folder=$(private)
  [[ $folder == /dev/shm/bpcp-ram-* ]]
  assert_equal "$(stat -c %a -- "$folder")" 700
  kill -KILL "$started"
  wait "$started" || true
  started=
  until_true gone
  assert [ ! -e "$folder" ]
  go --ramdisk 8M
  assert_success
  [[ $stderr == *'working in /dev/shm'* ]]
  complete 6
  gone
  assert [ ! -e "$(private)" ]
}

@test "a link that somebody planted is not followed" {
  without_mount
  mkdir -p "$state" "$BATS_TEST_TMPDIR/treasure"
  touch "$BATS_TEST_TMPDIR/treasure/kept"
  ln -s "$BATS_TEST_TMPDIR/treasure" "$state/ramdisk"
  go --ramdisk 8M
  assert_success
  assert [ -e "$BATS_TEST_TMPDIR/treasure/kept" ]
  gone
}

@test "what does not fit works on disk" {
  need_root
  local i
  for i in 1 2 3; do
    image "$base/images & more/f$i.tif" $((3 << 20))
  done
  go --ramdisk 2M
  assert_success
  complete 6
  gone
}

@test "a wrong size, and -t beside it, are 64" {
  local size
  for size in lots 1 -3 ''; do
    go --ramdisk "$size"
    assert_failure 64
    go --space "$size"
    assert_failure 64
    assert [ ! -e "$state/run.json" ]
  done
  go --ramdisk auto -t "$BATS_TEST_TMPDIR"
  assert_failure 64
  [[ $stderr == *'exclude each other'* ]]
}
