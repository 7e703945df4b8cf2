#!/usr/bin/env bash
# Summary: on an instance of the bpcp image: run one dataset, and shut down if asked to
#
# Usage: bpcp-boot [--check] [FILE]
#
# Reads FILE (default: /etc/bpcp/run.conf), makes a workspace on the instance's NVMe disks, gets
# pipelines/, load_data_csv/<dataset>/, metadata/<dataset>/ and filelist/<dataset>/ from S3, and
# starts run_analysis_pipeline.sh there as the user bpcp. Lines of FILE are NAME=value; the value
# goes to the end of its line, without quotes; lines that begin with # say nothing.
#
#   DATASET=NAME         the dataset (-d)
#   PIPELINE=PATH        the pipeline (-p), below the workspace: pipelines/…
#   WORKSPACE=s3://…     where the run's own files are
#   INPUT=s3://…         images (--input)
#   OUTPUT=s3://…        where results go (--output); the log of this goes there too, below log/
#   RAMDISK=auto|SIZE    work on a RAM disk (--ramdisk)
#   OPTION=WORD          one more word for run_analysis_pipeline.sh; as many lines as words
#   PROFILE=NAME         a profile of the AWS tools (--profile); not needed with an instance profile
#   REGION=NAME          the AWS region (default: the instance's own)
#   ENDPOINT_URL=URL     another S3 server (--endpoint-url)
#   TIME_LIMIT_MIN=N     stop the run after N minutes; what is done stays, and can be gone on with
#   SHUTDOWN=yes|no      shut down at the end, however it ends (default: no)
#
#   --check              read FILE, say what is wrong with it, and do nothing
#   -h, --help           this text
#
# The workspace is /mnt/bpcp: one NVMe disk as it is, several striped; without any, a folder on
# the root volume. A disk that holds anything already is left alone. With SHUTDOWN=yes and a time
# limit, the machine goes down 30 minutes after the limit even if all of this has died.
#
# Exit status: the run's own; 64 wrong command line; 66 no FILE; 69 a tool failed; 73 no workspace;
# 74 S3 did not answer; 75 the time was over; 77 not root; 78 FILE is wrong.
#
# Example: systemctl start --no-block bpcp-boot.service
set -euo pipefail

here=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/.." && pwd)
# shellcheck source=bin/lib/common.bash
source "$here/../bin/lib/common.bash"

readonly label=bpcp-scratch model='Amazon EC2 NVMe Instance Storage'
readonly time_to_close_min=30

conf=/etc/bpcp/run.conf
check=false
# the tests have places of their own
base=${BPCP_BOOT_DIR:-/mnt/bpcp}
log=${BPCP_BOOT_LOG:-/var/log/bpcp-boot.log}
profile_d=${BPCP_BOOT_PROFILE:-/etc/profile.d/bpcp.sh}

declare -A set=([SHUTDOWN]=no)
options=() access=() child=''

# parse_options ARG... -- reads the command line into the variables above
parse_options() {
  while [[ $# -gt 0 ]]; do
    case $1 in
      --check) check=true ;;
      -h | --help)
        print_help "${BASH_SOURCE[0]}"
        exit 0
        ;;
      -*) die 64 "unknown option: $1" "bpcp-boot --help" ;;
      *) conf=$1 ;;
    esac
    shift
  done
}

# read_conf -- reads the settings; says all that is wrong with them, then exits with 78
read_conf() {
  local name value number=0 wrong=()
  [[ -r $conf ]] || die 66 "no settings: cannot read $conf" "bpcp-boot --help says what goes there"
  while IFS='=' read -r name value || [[ -n $name ]]; do
    number=$((number + 1))
    value=${value%$'\r'}
    case $name in
      '' | '#'* | $'\r') ;;
      DATASET | PIPELINE | PROFILE | REGION | ENDPOINT_URL | RAMDISK) set[$name]=$value ;;
      WORKSPACE | INPUT | OUTPUT)
        [[ $value == s3://?* ]] || wrong+=("line $number: $name is not s3://…: $value")
        set[$name]=${value%/}
        ;;
      TIME_LIMIT_MIN)
        [[ $value =~ ^[1-9][0-9]{0,5}$ ]] || wrong+=("line $number: $name is not a number of minutes: $value")
        set[$name]=$value
        ;;
      SHUTDOWN)
        [[ $value == yes || $value == no ]] || wrong+=("line $number: $name is yes or no: $value")
        set[$name]=$value
        ;;
      OPTION) options+=("$value") ;;
      *) wrong+=("line $number: there is no setting $name") ;;
    esac
  done <"$conf"
  for name in DATASET PIPELINE WORKSPACE; do
    [[ -n ${set[$name]:-} ]] || wrong+=("$name is missing")
  done
  if [[ ${set[PIPELINE]:-} == /* || ${set[PIPELINE]:-}/ == *../* ]]; then
    wrong+=("PIPELINE is not below the workspace: ${set[PIPELINE]}")
  fi
  if [[ ${#wrong[@]} -gt 0 ]]; then
    printf '%s\n' "${wrong[@]}" >&2
    die 78 "${#wrong[@]} mistakes in $conf" "bpcp-boot --help says what goes there"
  fi
}

# --- the workspace ----------------------------------------------------------------------------

# instance_disks -- prints the instance's own NVMe disks, one a line
instance_disks() {
  local name its_model
  lsblk --nodeps --noheadings --paths --output NAME,MODEL | while read -r name its_model; do
    if [[ $its_model == "$model" ]]; then
      printf '%s\n' "$name"
    fi
  done
}

# is_empty DISK -- succeeds where DISK has neither partitions nor the mark of any file system, RAID
# or volume
is_empty() {
  local marks parts
  marks=$(wipefs --no-act --noheadings -- "$1") && parts=$(lsblk --noheadings --output NAME -- "$1") || return 1
  [[ -z $marks && $(wc -l <<<"$parts") -eq 1 ]]
}

# make_workspace -- mounts the NVMe disks at the workspace, or leaves a folder there
make_workspace() {
  local disks=() disk device
  mkdir -p -- "$base" || die 73 "cannot make $base"
  if mountpoint --quiet -- "$base"; then
    say "workspace: $base is mounted already"
  elif device=$(blkid --label "$label"); then
    say "workspace: $device, made at an earlier boot"
    mount -- "$device" "$base" || die 73 "cannot mount $device at $base"
  else
    while IFS= read -r disk; do
      if is_empty "$disk"; then
        disks+=("$disk")
      else
        say "workspace: $disk is not empty: left alone"
      fi
    done < <(instance_disks)
    if [[ ${#disks[@]} -eq 0 ]]; then
      say "workspace: no empty NVMe disk of this instance; a folder on the root volume"
    else
      device=${disks[0]}
      if [[ ${#disks[@]} -gt 1 ]]; then
        device=/dev/md0
        mdadm --create "$device" --level=0 --raid-devices="${#disks[@]}" --run "${disks[@]}" ||
          die 73 "cannot stripe ${disks[*]}"
      fi
      # without -f: it refuses what is not empty, too
      if ! { mkfs.xfs -q -L "$label" "$device" && mount -- "$device" "$base"; }; then
        die 73 "cannot make a file system on $device, mounted at $base"
      fi
      say "workspace: ${disks[*]}"
    fi
  fi
  chown bpcp:bpcp -- "$base" || die 73 "cannot give $base to the user bpcp"
}

# --- the run ----------------------------------------------------------------------------------

# become_bpcp COMMAND... -- becomes COMMAND, run by the user bpcp in the workspace
become_bpcp() {
  local home
  home=$(getent passwd bpcp | cut -d : -f 6)
  # the log is sent also where there is no workspace
  cd -- "$base" 2>/dev/null || cd /
  exec setpriv --reuid=bpcp --regid=bpcp --init-groups env HOME="$home" USER=bpcp LOGNAME=bpcp "$@" </dev/null
}

# s3 LIMIT ARG... -- runs `aws s3 ARG...` with the run's profile and endpoint, for LIMIT at most
s3() {
  (become_bpcp timeout "$1" "$BPCP_VENV/bpcp/bin/aws" "${access[@]}" s3 "${@:2}" --only-show-errors)
}

# pull -- gets the run's own files
pull() {
  local part
  for part in pipelines "load_data_csv/${set[DATASET]}" "metadata/${set[DATASET]}" "filelist/${set[DATASET]}"; do
    s3 60m sync "${set[WORKSPACE]}/$part" "$base/$part" ||
      die 74 "cannot get ${set[WORKSPACE]}/$part" "is it there, and may this instance read it? ami_setup/iam/run-instance.json"
  done
  [[ -f $base/${set[PIPELINE]} ]] || die 66 "${set[WORKSPACE]} holds no ${set[PIPELINE]}"
}

# analyse -- runs the dataset; ends with the run's exit code, or 75 where the time was over
analyse() {
  local command=("$BPCP_ROOT/run_analysis_pipeline.sh" -d "${set[DATASET]}" -p "$base/${set[PIPELINE]}") code=0
  [[ -z ${set[INPUT]:-} ]] || command+=(--input "${set[INPUT]}")
  [[ -z ${set[OUTPUT]:-} ]] || command+=(--output "${set[OUTPUT]}")
  [[ -z ${set[RAMDISK]:-} ]] || command+=(--ramdisk "${set[RAMDISK]}")
  command+=("${access[@]}" "${options[@]}")
  if [[ -n ${set[TIME_LIMIT_MIN]:-} ]]; then
    # it stops at TERM and keeps what is done
    command=(timeout --kill-after="$((time_to_close_min / 2))m" "${set[TIME_LIMIT_MIN]}m" "${command[@]}")
  fi
  say "run: ${command[*]}"
  # a shell between would keep signals to itself
  become_bpcp "${command[@]}" &
  child=$!
  wait "$child" || code=$?
  child=''
  if [[ $code -eq 124 ]]; then
    die 75 "the ${set[TIME_LIMIT_MIN]} minutes of TIME_LIMIT_MIN are over" "what is done stays: run it again"
  fi
  return "$code"
}

# stop CODE -- passes a signal on to the run, waits for it, and ends with CODE
stop() {
  trap '' HUP INT TERM
  if [[ -n $child ]]; then
    # it may just have ended; this is a stop, so its exit code no longer counts
    kill -TERM "$child" 2>/dev/null || true
    wait "$child" || true
  fi
  exit "$1"
}

# close_boot -- says how it ended, sends the log, and shuts down if asked; runs at every end
close_boot() {
  local code=$?
  trap '' HUP INT TERM
  set +e
  say "$(date -u +%Y-%m-%dT%H:%M:%SZ) event=boot-closed exit=$code shutdown=${set[SHUTDOWN]}"
  if [[ -n ${set[OUTPUT]:-} && -n ${set[DATASET]:-} && -s $log ]]; then
    s3 2m cp "$log" "${set[OUTPUT]}/log/${set[DATASET]}/boot-$(date -u +%Y%m%dT%H%M%SZ).log" ||
      say "the log could not be sent to ${set[OUTPUT]}"
  fi
  if [[ ${set[SHUTDOWN]} == yes ]]; then
    sync
    shutdown -P now
  fi
  exit "$code"
}

main() {
  parse_options "$@"
  if $check; then
    read_conf
    say "$conf: nothing wrong"
    return
  fi
  if [[ $(id -u) -ne 0 ]]; then
    die 77 "only root can make the workspace" "sudo bpcp-boot"
  fi
  exec > >(tee -a -- "$log") 2>&1
  trap close_boot EXIT
  trap 'stop 129' HUP
  trap 'stop 130' INT
  trap 'stop 143' TERM
  read_conf
  [[ -z ${set[PROFILE]:-} ]] || access+=(--profile "${set[PROFILE]}")
  [[ -z ${set[ENDPOINT_URL]:-} ]] || access+=(--endpoint-url "${set[ENDPOINT_URL]}")
  # without cloud-init's word, the AWS tools look for a region themselves
  AWS_DEFAULT_REGION=${set[REGION]:-$(cloud-init query region 2>/dev/null || true)}
  [[ -z $AWS_DEFAULT_REGION ]] || export AWS_DEFAULT_REGION
  if [[ ${set[SHUTDOWN]} == yes && -n ${set[TIME_LIMIT_MIN]:-} ]]; then
    # whatever becomes of this process
    shutdown -P "+$((set[TIME_LIMIT_MIN] + time_to_close_min))"
  fi
  if [[ -r $profile_d ]]; then
    # shellcheck disable=SC1090 # written by ami_setup/steps/30-warm.sh
    source "$profile_d"
  fi
  make_workspace
  pull
  analyse
}

main "$@"
