#!/usr/bin/env bats
# ami_setup/bake/instance.sh, which makes bake.sh's instance into an image: in a mount namespace of its
# own, where /opt, /run and the console are empty, and with fakes for what a machine would do.
# shellcheck disable=SC2016,SC2030,SC2031 # fakes are quoted scripts; each test is a subshell of its own

setup() {
  bats_require_minimum_version 1.5.0
  export BATS_LIB_PATH=${BATS_LIB_PATH:-/usr/lib/bats}
  load "$BATS_LIB_PATH/bats-support/load"
  load "$BATS_LIB_PATH/bats-assert/load"
  unshare --mount true 2>/dev/null || skip 'NOT TESTED: this user cannot make a mount namespace'
  root=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
  export HOME=$BATS_TEST_TMPDIR/home TMPDIR=$BATS_TEST_TMPDIR/tmp CALLS=$BATS_TEST_TMPDIR/calls
  fakes=$BATS_TEST_TMPDIR/fakes console=$BATS_TEST_TMPDIR/console
  mkdir -p "$HOME" "$TMPDIR" "$fakes"
  : >"$CALLS"
  : >"$console"
  local name
  for name in apt-get cloud-init shutdown sleep systemctl systemd-run; do
    printf '#!%s\nprintf "%%s" "${0##*/}" >>"$CALLS"; printf " %%s" "$@" >>"$CALLS"; echo >>"$CALLS"\n' "$BASH" >"$fakes/$name"
    chmod +x "$fakes/$name"
  done
  PATH=$fakes:$PATH

  # a checkout whose build is a fake
  checkout="$BATS_TEST_TMPDIR/it's a checkout"
  mkdir -p "$checkout/ami_setup"
  printf '#!%s\nprintf "build.sh %%s\\n" "$*" >>"$CALLS"; exit "${BUILD_ENDS:-0}"\n' "$BASH" >"$checkout/ami_setup/build.sh"
  chmod +x "$checkout/ami_setup/build.sh"
  git -C "$checkout" init -q
  git -C "$checkout" add .
  git -C "$checkout" -c user.name=t -c user.email=t@example.org commit -q -m t
  commit=$(git -C "$checkout" rev-parse HEAD)
  git_url=file://$checkout archive_url='' archive_sum=''
}

# instance [WORD] -- runs the user-data, as a boot does, or the build itself
instance() {
  {
    printf '#!%s\n' "$BASH"
    printf '%s=%q\n' BAKE_TOKEN bake-1 BAKE_GIT_URL "$git_url" BAKE_COMMIT "$commit" BAKE_ARCHIVE_URL "$archive_url" \
      BAKE_ARCHIVE_SHA256 "$archive_sum" BAKE_BASE 'ami-1 debian' BAKE_TIME_LIMIT_MIN 60
    cat "$root/ami_setup/bake/instance.sh"
  } >"$BATS_TEST_TMPDIR/user-data"
  unshare --mount "$BASH" -c 'mount -t tmpfs tmpfs /opt && mount -t tmpfs tmpfs /run && mkdir -p /run/bpcp-bake
    [[ -e /dev/console ]] || { mount -t tmpfs tmpfs /dev && touch /dev/console /dev/null; }
    mount --bind "$1" /dev/console || exit 99
    bash "$2" "${@:3}"; code=$?; ls /run/bpcp-bake; exit $code' -- "$console" "$BATS_TEST_TMPDIR/user-data" "$@"
}

@test "instance: the time limit comes first, then the build, outside of cloud-init" {
  run instance
  assert_success
  assert_line build
  run cat "$CALLS"
  assert_line --index 0 'shutdown -P +60'
  assert_line --index 1 'systemd-run --quiet --unit=bpcp-bake /bin/bash /run/bpcp-bake/build build'
}

@test "instance: the commit is fetched and built, the verdict stands on the console, and it powers off" {
  run instance build
  assert_success
  run cat "$CALLS"
  assert_line --index 0 'cloud-init status --wait'
  assert_line "build.sh --this-machine --commit $commit --base ami-1 debian"
  assert_equal "$(tail -n 1 "$CALLS")" 'systemctl poweroff'
  run cat "$console"
  assert_line 'bpcp-bake bake-1 validated'
}

@test "instance: a build that fails is said to have failed, and it powers off" {
  BUILD_ENDS=69 run instance build
  run cat "$console"
  assert_line 'bpcp-bake bake-1 failed with exit code 69'
  refute_line --partial validated
  assert_equal "$(tail -n 1 "$CALLS")" 'systemctl poweroff'
}

@test "instance: a commit that is not there: nothing is built, and it powers off" {
  commit=0123456789012345678901234567890123456789
  run instance build
  run cat "$console"
  assert_line --partial 'bpcp-bake bake-1 failed'
  run cat "$CALLS"
  refute_output --partial build.sh
  assert_equal "$(tail -n 1 "$CALLS")" 'systemctl poweroff'
}

@test "instance: an archive is built if it is the one that was sent, and only then" {
  git -C "$checkout" archive --format=tar.gz --output="$BATS_TEST_TMPDIR/a.tar.gz" HEAD
  git_url='' archive_url=file://$BATS_TEST_TMPDIR/a.tar.gz
  archive_sum=$(sha256sum <"$BATS_TEST_TMPDIR/a.tar.gz")
  archive_sum=${archive_sum%% *}
  run instance build
  run cat "$console"
  assert_line 'bpcp-bake bake-1 validated'
  printf 'x' >>"$BATS_TEST_TMPDIR/a.tar.gz"
  : >"$CALLS"
  run instance build
  run cat "$console"
  assert_line --partial 'bpcp-bake bake-1 failed'
  run cat "$CALLS"
  refute_output --partial build.sh
  assert_equal "$(tail -n 1 "$CALLS")" 'systemctl poweroff'
}
