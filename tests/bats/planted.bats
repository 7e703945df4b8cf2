#!/usr/bin/env bats
# Places that others can write to: what bpcp makes there is private, and what somebody planted is
# neither followed nor removed.
# shellcheck disable=SC2030,SC2031,SC2154 # each test is a subshell of its own; screen.bash sets names

load screen

need_root() {
  if [[ $(id -u) -ne 0 ]]; then
    skip 'only root can play two users'
  fi
}

# as_other COMMAND... -- runs COMMAND as another user
as_other() {
  setpriv --reuid 65534 --regid 65534 --clear-groups -- "$@"
}

# load_ramdisk -- loads the functions of the RAM disk
load_ramdisk() {
  # shellcheck source=bin/lib/common.bash
  source "$root/bin/lib/common.bash"
  # shellcheck source=bin/lib/ramdisk.bash
  source "$root/bin/lib/ramdisk.bash"
}

@test "what attempts work in, in a shared folder, is private and its name can not be guessed" {
  local shared=$BATS_TEST_TMPDIR/shared names
  mkdir -m 1777 "$shared"
  begin -P 2 -t "$shared"
  until_true test -n "$(find "$shared" -mindepth 1 -maxdepth 1)"
  run find "$shared" -mindepth 1 -maxdepth 1 ! -perm 0700
  assert_output ''
  names=$(find "$shared" -mindepth 1 -maxdepth 1 -printf '%f\n')
  [[ $names =~ ^bpcp-[0-9a-f]+-[a-z0-9_]{8} ]]
  kill -TERM "$started"
  kill -TERM "$started"
  ended
  run find "$shared" -mindepth 1
  assert_output ''
}

@test "folders and links of another user in a shared folder stay, whatever they are called" {
  need_root
  local shared chunk
  # where another user can go to
  shared=$(mktemp -d /tmp/bpcp-test-XXXXXX)
  chmod 1777 "$shared"
  go --dry-run
  chunk=$(cut -f1 <<<"${lines[1]}")
  mkdir -p "$BATS_TEST_TMPDIR/treasure"
  touch "$BATS_TEST_TMPDIR/treasure/kept"
  as_other mkdir "$shared/bpcp-$chunk-aaaaaaaa" "$shared/bpcp-images-aaaaaaaa"
  as_other touch "$shared/bpcp-$chunk-aaaaaaaa/theirs"
  as_other ln -s "$BATS_TEST_TMPDIR/treasure" "$shared/bpcp-$chunk-bbbbbbbb"
  begin -P 1 -t "$shared"
  kill -KILL "$started"
  ended
  # as if the dead attempt had been there: a state file can say anything
  until_true nothing_runs
  local name
  for name in "bpcp-$chunk-aaaaaaaa" "bpcp-$chunk-bbbbbbbb"; do
    python3 - "$state/chunks/$chunk/running.json" "$shared/$name" <<'END'
import json, sys
json.dump({"pid": 1, "attempt": 1, "folder": sys.argv[2], "log": "x"}, open(sys.argv[1], "w"))
END
    go -t "$shared"
    assert_success
    rm -rf "$base/analysis"
  done
  assert [ -e "$shared/bpcp-$chunk-aaaaaaaa/theirs" ]
  assert [ -d "$shared/bpcp-images-aaaaaaaa" ]
  assert [ -L "$shared/bpcp-$chunk-bbbbbbbb" ]
  assert [ -e "$BATS_TEST_TMPDIR/treasure/kept" ]
  rm -rf "$shared"
}

@test "a link to a mount in the RAM disk's place is not unmounted" {
  need_root
  local mount=$BATS_TEST_TMPDIR/mount link=$BATS_TEST_TMPDIR/link
  mkdir "$mount"
  mount -t tmpfs -o size=1M bpcp-test "$mount"
  touch "$mount/kept"
  ln -s "$mount" "$link"
  load_ramdisk
  unmake_ramdisk "$link"
  assert [ ! -e "$link" ]
  assert [ -e "$mount/kept" ]
  umount "$mount"
}

@test "a link that leads out of /dev/shm is not followed" {
  local home=/dev/shm/bpcp-ram-test$$ link=$BATS_TEST_TMPDIR/link
  mkdir "$home" "$BATS_TEST_TMPDIR/treasure"
  touch "$BATS_TEST_TMPDIR/treasure/kept"
  ln -s "$home/../../..$BATS_TEST_TMPDIR/treasure" "$link"
  assert [ -e "$link/kept" ]
  load_ramdisk
  unmake_ramdisk "$link"
  assert [ -e "$BATS_TEST_TMPDIR/treasure/kept" ]
  assert [ ! -L "$link" ]
  # but its own goes
  ln -s "$home" "$link"
  unmake_ramdisk "$link"
  assert [ ! -e "$home" ]
}

@test "a folder of another user in /dev/shm is not removed" {
  need_root
  local theirs=/dev/shm/bpcp-ram-theirs$$ link=$BATS_TEST_TMPDIR/link
  as_other mkdir "$theirs"
  ln -s "$theirs" "$link"
  load_ramdisk
  unmake_ramdisk "$link"
  assert [ -d "$theirs" ]
  assert [ ! -L "$link" ]
  rmdir "$theirs"
}
