#!/usr/bin/env bats
# ami_setup/boot/bpcp-boot.sh, which runs a dataset from boot to shutdown. All that would touch this
# machine is a fake on PATH: disks, mounts, accounts, aws, the run itself, and shutdown.
# shellcheck disable=SC2016,SC2030,SC2031 # fakes are quoted scripts; each test is a subshell of its own

setup() {
  bats_require_minimum_version 1.5.0
  export BATS_LIB_PATH=${BATS_LIB_PATH:-/usr/lib/bats}
  load "$BATS_LIB_PATH/bats-support/load"
  load "$BATS_LIB_PATH/bats-assert/load"
  root=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
  export HOME=$BATS_TEST_TMPDIR/home TMPDIR=$BATS_TEST_TMPDIR/tmp CALLS=$BATS_TEST_TMPDIR/calls
  fakes=$BATS_TEST_TMPDIR/fakes
  mkdir -p "$HOME" "$TMPDIR" "$fakes"
  : >"$CALLS"
  unset JAVA_TOOL_OPTIONS FAIL MARKS PARTS LABELLED MOUNTED DISKS RUN_ENDS SLOW
  export FAKE_UID=0
  export BPCP_BOOT_DIR="$BATS_TEST_TMPDIR/work; é" BPCP_BOOT_LOG=$BATS_TEST_TMPDIR/boot.log
  export BPCP_BOOT_PROFILE=$BATS_TEST_TMPDIR/profile.sh
  conf=$BATS_TEST_TMPDIR/run.conf

  # a checkout with a fake run, and a fake aws that gets one pipeline
  checkout=$BATS_TEST_TMPDIR/checkout
  export BPCP_VENV=$checkout/.venv
  mkdir -p "$checkout/bin/lib" "$BPCP_VENV/bpcp/bin"
  cp -R "$root/ami_setup" "$checkout/"
  cp "$root/bin/lib/common.bash" "$checkout/bin/lib/"
  printf '#!%s\n%s\n' "$BASH" 'trap "echo run-stopped >>\"$CALLS\"; exit 75" TERM
printf "run in %s:" "$PWD" >>"$CALLS"; printf " [%s]" "$@" >>"$CALLS"
printf " java=%s user=%s region=%s\n" "${JAVA_TOOL_OPTIONS:-}" "${USER:-}" "${AWS_DEFAULT_REGION:-}" >>"$CALLS"
[[ -z ${SLOW:-} ]] || { sleep "$SLOW" & wait $!; }
exit "${RUN_ENDS:-0}"' >"$checkout/run_analysis_pipeline.sh"
  printf '#!%s\n%s\n' "$BASH" 'printf "aws" >>"$CALLS"; printf " %s" "$@" >>"$CALLS"; echo >>"$CALLS"
[[ -z ${FAIL:-} || " $* " != *" $FAIL "* ]] || { echo "An error occurred (AccessDenied)"; exit 1; }
case " $* " in *"s3 sync s3://b/w/pipelines "*) [[ ${EMPTY:-} ]] || { mkdir -p "$BPCP_BOOT_DIR/pipelines"; touch "$BPCP_BOOT_DIR/pipelines/p.cppipe"; } ;; esac' \
    >"$BPCP_VENV/bpcp/bin/aws"
  chmod +x "$checkout/run_analysis_pipeline.sh" "$BPCP_VENV/bpcp/bin/aws"

  local name
  for name in mount mkfs.xfs mdadm chown shutdown; do
    fake "$name" 'printf "%s" "${0##*/}" >>"$CALLS"; printf " %s" "$@" >>"$CALLS"; echo >>"$CALLS"
[[ ${FAIL:-} != "${0##*/}" ]]'
  done
  fake id 'echo "$FAKE_UID"'
  fake getent 'echo "bpcp:x:999:999::/home/bpcp:/bin/bash"'
  fake setpriv 'while [[ $1 == --* ]]; do shift; done; exec "$@"'
  fake cloud-init '[[ $* == "query region" && ${FAIL:-} != cloud-init ]] && echo eu-central-1'
  fake mountpoint '[[ -n ${MOUNTED:-} ]]'
  fake blkid '[[ -n ${LABELLED:-} ]] && echo /dev/nvme1n1'
  # NAME is marked with what is on it, in MARKS; has partitions, in PARTS
  fake wipefs '[[ ${FAIL:-} != wipefs ]] || exit 1
[[ " ${MARKS:-} " != *" ${!#} "* ]] || echo "0x0 xfs"'
  fake lsblk 'if [[ $* == *MODEL* ]]; then
  printf "%s\n" "/dev/nvme0n1 Amazon Elastic Block Store"
  for disk in ${DISKS:-}; do printf "%s Amazon EC2 NVMe Instance Storage\n" "$disk"; done
else
  echo "${!#}"; [[ " ${PARTS:-} " != *" ${!#} "* ]] || echo "part1"
fi'
  PATH=$fakes:$PATH
  settings DATASET=d PIPELINE=pipelines/p.cppipe WORKSPACE=s3://b/w/
}

# fake NAME BODY -- puts a bash script on PATH
fake() {
  printf '#!%s\n%s\n' "$BASH" "$2" >"$fakes/$1"
  chmod +x "$fakes/$1"
}

# settings LINE... -- writes the settings
settings() {
  printf '%s\n' "$@" >"$conf"
}

# boot -- runs bpcp-boot with these settings
boot() {
  "$checkout/ami_setup/boot/bpcp-boot.sh" "$conf"
}

@test "boot: help, an unknown option, no settings, no root" {
  run "$checkout/ami_setup/boot/bpcp-boot.sh" --help
  assert_success
  assert_line --partial 'SHUTDOWN=yes|no'
  run -64 "$checkout/ami_setup/boot/bpcp-boot.sh" --nonsense
  run -66 "$checkout/ami_setup/boot/bpcp-boot.sh" --check "$BATS_TEST_TMPDIR/none"
  FAKE_UID=1000 run -77 boot
  run cat "$CALLS"
  assert_output ''
}

@test "boot: every mistake in the settings is named, and nothing runs: 78" {
  settings 'DATASET=' 'PIPELINE=../p.cppipe' 'WORKSPACE=bucket' 'TIME_LIMIT_MIN=2h' 'SHUTDOWN=maybe' 'COLOUR=red'
  run -78 "$checkout/ami_setup/boot/bpcp-boot.sh" --check "$conf"
  assert_line 'DATASET is missing'
  assert_line 'PIPELINE is not below the workspace: ../p.cppipe'
  assert_line 'line 3: WORKSPACE is not s3://…: bucket'
  assert_line 'line 4: TIME_LIMIT_MIN is not a number of minutes: 2h'
  assert_line 'line 5: SHUTDOWN is yes or no: maybe'
  assert_line 'line 6: there is no setting COLOUR'
  assert_line --partial '6 mistakes'
  run -78 boot
  run cat "$CALLS"
  assert_output ''
}

@test "boot: the run's files come from S3, the run gets its options, and nothing shuts down unasked" {
  printf 'export JAVA_TOOL_OPTIONS=from-profile\n' >"$BPCP_BOOT_PROFILE"
  settings '# a comment' '' "DATASET=it's; d" PIPELINE=pipelines/p.cppipe WORKSPACE=s3://b/w/ INPUT=s3://in/x OUTPUT=s3://out/y/ \
    RAMDISK=auto OPTION=--chunk-size 'OPTION=4 8' PROFILE=me ENDPOINT_URL=http://127.0.0.1:1
  run boot
  assert_success
  run cat "$CALLS"
  assert_line "aws --profile me --endpoint-url http://127.0.0.1:1 s3 sync s3://b/w/pipelines $BPCP_BOOT_DIR/pipelines --only-show-errors"
  assert_line --partial "s3 sync s3://b/w/load_data_csv/it's; d $BPCP_BOOT_DIR/load_data_csv/it's; d"
  assert_line --partial "s3 sync s3://b/w/metadata/it's; d "
  assert_line --partial "s3 sync s3://b/w/filelist/it's; d "
  assert_line "run in $BPCP_BOOT_DIR: [-d] [it's; d] [-p] [$BPCP_BOOT_DIR/pipelines/p.cppipe] [--input] [s3://in/x] [--output] [s3://out/y] [--ramdisk] [auto] [--profile] [me] [--endpoint-url] [http://127.0.0.1:1] [--chunk-size] [4 8] java=from-profile user=bpcp region=eu-central-1"
  assert_line --regexp "s3 cp $BPCP_BOOT_LOG s3://out/y/log/it's; d/boot-[0-9TZ]+.log --only-show-errors"
  refute_output --partial shutdown
  run cat "$BPCP_BOOT_LOG"
  assert_output --partial 'event=boot-closed exit=0 shutdown=no'
}

@test "boot: the region is the instance's own, or what the settings say, or none" {
  settings DATASET=d PIPELINE=pipelines/p.cppipe WORKSPACE=s3://b/w REGION=us-west-2
  run boot
  assert_success
  run grep -c 'region=us-west-2$' "$CALLS"
  assert_output 1
  settings DATASET=d PIPELINE=pipelines/p.cppipe WORKSPACE=s3://b/w
  unset AWS_DEFAULT_REGION
  FAIL=cloud-init run boot
  assert_success
  run grep -c 'region=$' "$CALLS"
  assert_output 1
}

@test "boot: the run's exit code is its own, and it shuts down after success and failure alike" {
  settings DATASET=d PIPELINE=pipelines/p.cppipe WORKSPACE=s3://b/w SHUTDOWN=yes
  local code
  for code in 0 1 137; do
    : >"$CALLS"
    RUN_ENDS=$code run "-$code" boot
    run tail -n 1 "$CALLS"
    assert_output 'shutdown -P now'
  done
  # mistakes in the settings, too
  settings DATASET=d WORKSPACE=s3://b/w SHUTDOWN=yes
  : >"$CALLS"
  run -78 boot
  run cat "$CALLS"
  assert_output 'shutdown -P now'
}

@test "boot: S3 does not answer, or holds no such pipeline: 74, 66, and it shuts down" {
  settings DATASET=d PIPELINE=pipelines/p.cppipe WORKSPACE=s3://b/w OUTPUT=s3://b/w SHUTDOWN=yes
  FAIL=sync run -74 boot
  assert_output --partial 'AccessDenied'
  assert_output --partial 'cannot get s3://b/w/pipelines'
  run tail -n 1 "$CALLS"
  assert_output 'shutdown -P now'
  EMPTY=1 run -66 boot
  assert_output --partial 's3://b/w holds no pipelines/p.cppipe'
  # the log cannot be sent: it is said, and changes nothing
  FAIL='cp' run -0 boot
  assert_output --partial 'the log could not be sent'
  run tail -n 1 "$CALLS"
  assert_output 'shutdown -P now'
}

@test "boot: with a time limit, the machine's own timer is set first; the run is stopped: 75" {
  settings DATASET=d PIPELINE=pipelines/p.cppipe WORKSPACE=s3://b/w SHUTDOWN=yes TIME_LIMIT_MIN=720
  run boot
  assert_success
  run head -n 1 "$CALLS"
  assert_output 'shutdown -P +750'
  # one second for a minute
  fake timeout 'args=(); for word in "$@"; do [[ $word == 1m ]] && word=1s; args+=("$word"); done; exec /usr/bin/timeout "${args[@]}"'
  settings DATASET=d PIPELINE=pipelines/p.cppipe WORKSPACE=s3://b/w SHUTDOWN=yes TIME_LIMIT_MIN=1
  SLOW=20 run -75 boot
  assert_output --partial 'the 1 minutes of TIME_LIMIT_MIN are over'
  run tail -n 2 "$CALLS"
  assert_line 'run-stopped'
  assert_line 'shutdown -P now'
}

@test "boot: a signal goes on to the run, and it still shuts down: 143" {
  settings DATASET=d PIPELINE=pipelines/p.cppipe WORKSPACE=s3://b/w SHUTDOWN=yes
  SLOW=20 "$checkout/ami_setup/boot/bpcp-boot.sh" "$conf" 3>&- &
  local pid=$! code=0 tries=0
  until grep -q '^run in' "$CALLS"; do
    [[ $((tries += 1)) -lt 200 ]]
    sleep 0.05
  done
  kill -TERM "$pid"
  wait "$pid" || code=$?
  assert_equal "$code" 143
  run tail -n 2 "$CALLS"
  assert_output $'run-stopped\nshutdown -P now'
}

@test "boot: without an NVMe disk the workspace is a folder" {
  run boot
  assert_success
  assert_output --partial 'a folder on the root volume'
  run cat "$CALLS"
  refute_output --partial mkfs
  assert_line --partial 'chown bpcp:bpcp'
}

@test "boot: one NVMe disk is made and mounted; EBS is never touched" {
  DISKS=/dev/nvme1n1 run boot
  assert_success
  run cat "$CALLS"
  assert_line --index 0 'mkfs.xfs -q -L bpcp-scratch /dev/nvme1n1'
  assert_line --index 1 "mount -- /dev/nvme1n1 $BPCP_BOOT_DIR"
  refute_output --partial nvme0n1
}

@test "boot: several NVMe disks are striped" {
  DISKS='/dev/nvme1n1 /dev/nvme2n1' run boot
  assert_success
  run cat "$CALLS"
  assert_line --index 0 'mdadm --create /dev/md0 --level=0 --raid-devices=2 --run /dev/nvme1n1 /dev/nvme2n1'
  assert_line --index 1 'mkfs.xfs -q -L bpcp-scratch /dev/md0'
}

@test "boot: a disk with a file system, with partitions, or that cannot be read, is left alone" {
  export DISKS='/dev/nvme1n1 /dev/nvme2n1 /dev/nvme3n1'
  MARKS=/dev/nvme1n1 PARTS=/dev/nvme2n1 run boot
  assert_success
  assert_output --partial '/dev/nvme1n1 is not empty: left alone'
  assert_output --partial '/dev/nvme2n1 is not empty: left alone'
  run grep -c mdadm "$CALLS"
  assert_output 0
  run grep mkfs "$CALLS"
  assert_output 'mkfs.xfs -q -L bpcp-scratch /dev/nvme3n1'
  : >"$CALLS"
  FAIL=wipefs run boot
  assert_success
  run grep -c mkfs "$CALLS"
  assert_output 0
}

@test "boot: a workspace of an earlier boot is used again as it is" {
  LABELLED=1 run boot
  assert_success
  run head -n 1 "$CALLS"
  assert_output "mount -- /dev/nvme1n1 $BPCP_BOOT_DIR"
  : >"$CALLS"
  MOUNTED=1 run boot
  assert_success
  run grep -cE '^(mount|mkfs)' "$CALLS"
  assert_output 0
}

@test "boot: a workspace that cannot be made: 73" {
  export DISKS='/dev/nvme1n1 /dev/nvme2n1'
  local tool
  for tool in mdadm mkfs.xfs mount chown; do
    FAIL=$tool run -73 boot
  done
  LABELLED=1 FAIL=mount run -73 boot
  touch "$BATS_TEST_TMPDIR/file"
  BPCP_BOOT_DIR=$BATS_TEST_TMPDIR/file/x run -73 boot
  run grep -c '^run' "$CALLS"
  assert_output 0
}
