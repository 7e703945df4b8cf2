#!/usr/bin/env bash
# Summary: make the bpcp machine image in an AWS account, without Packer
#
# Usage: ami_setup/bake.sh --git URL [--commit ID] [OPTION ...]
#        ami_setup/bake.sh --archive s3://BUCKET/PREFIX [OPTION ...]
#
# Starts an instance of the newest base image; it fetches this checkout, runs ami_setup/build.sh,
# prints its verdict on its console and powers off. Of a validated instance an image is made. The
# instance has no key pair, no role and no open port, requires IMDSv2, and its volume is encrypted.
# It is terminated at every end of this script, also after a failure or Ctrl-C; if this script is
# killed, it powers itself off at its time limit. Prints the image's id. About 15 minutes.
#
#   --git URL            where the instance fetches the commit from: a public repository
#   --commit ID          full name of the commit (default: HEAD of this checkout, which must be
#                        there already)
#   --archive s3://…     instead of --git: put `git archive` of the commit there; the instance gets
#                        an address that is good for an hour, and the archive is removed at the end
#   --region NAME        as the AWS command's own, and so are
#   --profile NAME
#   --endpoint-url URL
#   --name NAME          name of the image (default: bpcp-<version>-<base>-<UTC time>)
#   --base NAME          debian-12 (default) or ubuntu-22.04
#   --arch NAME          amd64 (default) or arm64
#   --instance-type NAME (default: c6i.xlarge, or c7g.xlarge for arm64)
#   --subnet ID          a subnet with a way to the internet (default: the default VPC's)
#   --security-group ID  (default: the VPC's; nothing has to come in)
#   --kms-key ID         the key of the image's volume (default: the account's for EBS)
#   --volume-gb N        size of the root volume (default: 30)
#   --time-limit-min N   for the build on the instance (default: 60)
#   --dry-run            find the base image, say what would be started, and start nothing
#   -h, --help           this text
#
# Environment: BPCP_POLL_S, seconds between two looks at the instance or the image (default: 15).
#
# Exit status: 0 the image is there; 64 wrong command line; 66 no such commit or base image; 69 AWS
# did not answer as it should; 73 no image came of it; 74 something could not be removed again: it
# is named, and may cost; 130/143 interrupted, terminated.
#
# Example: ami_setup/bake.sh --git https://example.org/bpcp.git --region eu-central-1
set -euo pipefail

here=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd)
# shellcheck source=bin/lib/common.bash
source "$here/../bin/lib/common.bash"

# what the user says
git_url='' commit='' archive='' name='' base=debian-12 arch=amd64 instance_type='' subnet=''
security_group='' kms_key='' volume_gb=30 time_limit_min=60 dry_run=false access=()
poll_s=${BPCP_POLL_S:-15}

# what there is to remove: set before the call that makes it, so that no signal falls between
token='' launched=false instance='' imaging=false image='' image_done=false uploaded=''

# an image takes longer than its instance's start and stop, but never this long
readonly image_limit_min=60 console_limit_min=10

# parse_options ARG... -- reads the command line into the variables above
parse_options() {
  local option
  while [[ $# -gt 0 ]]; do
    option=${1#--}
    case $1 in
      --dry-run) dry_run=true ;;
      --region | --profile | --endpoint-url)
        need_value "$1" "${@:2:1}"
        access+=("$1" "$2")
        shift
        ;;
      --git)
        need_value "$1" "${@:2:1}"
        git_url=$2
        shift
        ;;
      --commit | --archive | --name | --base | --arch | --instance-type | --subnet | \
        --security-group | --kms-key | --volume-gb | --time-limit-min)
        need_value "$1" "${@:2:1}"
        printf -v "${option//-/_}" '%s' "$2"
        shift
        ;;
      -h | --help)
        print_help "${BASH_SOURCE[0]}"
        exit 0
        ;;
      *) die 64 "unknown option: $1" "ami_setup/bake.sh --help" ;;
    esac
    shift
  done
  local usage="ami_setup/bake.sh --help"
  # it stands in tags, too, where a comma would end it
  [[ $name =~ ^([A-Za-z0-9()./_-]{3,128})?$ ]] || die 64 "--name is no name for an image: $name" "3 to 128 of A-Z a-z 0-9 ( ) . / _ -"
  if [[ -n $git_url && -n $archive || -z $git_url$archive ]]; then
    die 64 "say where the instance gets bpcp from: --git or --archive" "$usage"
  fi
  [[ -z $archive || $archive == s3://?* ]] || die 64 "--archive is not s3://…: $archive" "$usage"
  [[ $volume_gb =~ ^[1-9][0-9]{0,4}$ ]] || die 64 "--volume-gb is not a number: $volume_gb" "$usage"
  [[ $time_limit_min =~ ^[1-9][0-9]{0,3}$ ]] || die 64 "--time-limit-min is not a number: $time_limit_min" "$usage"
  case $arch in
    amd64) instance_type=${instance_type:-c6i.xlarge} ;;
    arm64) instance_type=${instance_type:-c7g.xlarge} ;;
    *) die 64 "--arch $arch: there is no such architecture" "amd64, arm64" ;;
  esac
  # who publishes it, and under what name
  case $base in
    debian-12) owner=136693071363 filter="debian-12-$arch-*" ;;
    ubuntu-22.04) owner=099720109477 filter="ubuntu/images/hvm-ssd/ubuntu-jammy-22.04-$arch-server-*" ;;
    *) die 64 "--base $base: there is no such base" "debian-12, ubuntu-22.04" ;;
  esac
}

# settle -- checks what the options name, and gives the rest its values
settle() {
  if ! commit=$(git -C "$BPCP_ROOT" rev-parse --verify --quiet "${commit:-HEAD}^{commit}"); then
    die 66 "no such commit in $BPCP_ROOT" "bake from a git checkout; --commit takes one of its commits"
  fi
  if ! aws=$(type -P aws) && ! aws=$(type -P "$BPCP_VENV/bpcp/bin/aws"); then
    die 69 "there is no aws command" "ami_setup/install.sh"
  fi
  token=bake-$(date -u +%Y%m%dT%H%M%SZ)-$$-$RANDOM
  name=${name:-bpcp-$(bpcp_version)-$base-$arch-$(date -u +%Y%m%d-%H%M%S)}
  scratch=$(mktemp -d)
}

# call ARG... -- runs `aws ARG...` in the account that was named; prints its answer as text
call() {
  "$aws" "${access[@]}" --output text "$@" </dev/null
}

# ask ARG... -- the same; where AWS does not answer, exits with 69
ask() {
  call "$@" || die 69 "failed: aws $1 $2"
}

# look ARG... -- the same for a question: asks up to three times, for a new id is not known everywhere
# at once
look() {
  local try
  for try in 1 2; do
    call "$@" 2>/dev/null && return 0
    pause
  done
  ask "$@"
}

# pause -- waits for the next look; a signal ends it
pause() {
  sleep "$poll_s" &
  wait $!
}

# --- the steps --------------------------------------------------------------------------------

# find_base -- finds the newest base image; sets base_image and root_device
find_base() {
  local found
  found=$(look ec2 describe-images --owners "$owner" \
    --filters "Name=name,Values=$filter" Name=state,Values=available Name=root-device-type,Values=ebs \
    --query 'sort_by(Images, &CreationDate)[-1].[ImageId, RootDeviceName, Name]')
  read -r base_image root_device base_name <<<"$found"
  if [[ $base_image != ami-* ]]; then
    die 66 "$owner has no image $filter here" "another --region?"
  fi
  say "base      $base_image ($base_name)"
}

# upload -- puts the commit's files into the bucket; sets archive_url and archive_sum
upload() {
  archive_url='' archive_sum=''
  [[ -n $archive ]] || return 0
  git -C "$BPCP_ROOT" archive --format=tar.gz --output="$scratch/bpcp.tar.gz" "$commit"
  archive_sum=$(sha256sum <"$scratch/bpcp.tar.gz")
  archive_sum=${archive_sum%% *}
  uploaded=${archive%/}/$token.tar.gz
  ask s3 cp --only-show-errors "$scratch/bpcp.tar.gz" "$uploaded"
  archive_url=$(ask s3 presign --expires-in 3600 "$uploaded")
  say "upload    $uploaded"
}

# user_data -- prints what the instance runs at its first boot
user_data() {
  printf '#!/bin/bash\n'
  printf '%s=%q\n' BAKE_TOKEN "$token" BAKE_GIT_URL "$git_url" BAKE_COMMIT "$commit" \
    BAKE_ARCHIVE_URL "$archive_url" BAKE_ARCHIVE_SHA256 "$archive_sum" \
    BAKE_BASE "$base_image $base_name" BAKE_TIME_LIMIT_MIN "$time_limit_min"
  cat -- "$here/bake/instance.sh"
}

# tags KIND -- prints the tag specification for a KIND of resource
tags() {
  printf 'ResourceType=%s,Tags=[{Key=Name,Value=%s},{Key=bpcp-bake,Value=%s},{Key=bpcp-version,Value=%s},{Key=bpcp-commit,Value=%s},{Key=bpcp-base,Value=%s}]\n' \
    "$1" "$name" "$token" "$(bpcp_version)" "$commit" "$base_image"
}

# launch -- starts the instance; sets instance
launch() {
  local volume="VolumeSize=$volume_gb,VolumeType=gp3,Encrypted=true,DeleteOnTermination=true"
  local more=()
  [[ -z $kms_key ]] || volume+=",KmsKeyId=$kms_key"
  [[ -z $subnet ]] || more+=(--subnet-id "$subnet")
  [[ -z $security_group ]] || more+=(--security-group-ids "$security_group")
  user_data >"$scratch/user-data"
  local command=(ec2 run-instances --count 1 --image-id "$base_image" --instance-type "$instance_type"
    --metadata-options 'HttpEndpoint=enabled,HttpTokens=required,HttpPutResponseHopLimit=1'
    --block-device-mappings "DeviceName=$root_device,Ebs={$volume}"
    --instance-initiated-shutdown-behavior stop --client-token "$token"
    --tag-specifications "$(tags instance)" "$(tags volume)"
    --user-data "file://$scratch/user-data" "${more[@]}")
  if $dry_run; then
    say "would     aws ${command[*]@Q}"
    return
  fi
  launched=true
  instance=$(ask "${command[@]}" --query 'Instances[0].InstanceId')
  say "launch    $instance ($instance_type)"
}

# await_stop -- waits until the instance has powered itself off
await_stop() {
  # it gives up by itself before this
  local state deadline=$((SECONDS + (time_limit_min + 15) * 60))
  while true; do
    state=$(look ec2 describe-instances --instance-ids "$instance" \
      --query 'Reservations[0].Instances[0].State.Name')
    case $state in
      stopped) break ;;
      pending | running | stopping) ;;
      *) die 73 "$instance is $state: somebody else ended it" ;;
    esac
    [[ $SECONDS -lt $deadline ]] || die 73 "$instance did not end within $((time_limit_min + 15)) minutes"
    pause
  done
  say "stopped   after $((SECONDS / 60)) minutes"
}

# read_verdict -- takes the verdict from the instance's console; none is as good as a bad one
read_verdict() {
  local console='' verdict='' deadline=$((SECONDS + console_limit_min * 60))
  # AWS shows the console some minutes after the instance has stopped
  while true; do
    console=$(look ec2 get-console-output --instance-id "$instance" --query Output)
    verdict=$(grep -a -o -m 1 -e "bpcp-bake $token .*" <<<"$console") && break
    [[ $SECONDS -lt $deadline ]] || break
    pause
  done
  verdict=${verdict%$'\r'}
  if [[ $verdict != "bpcp-bake $token validated" ]]; then
    tail -n 40 <<<"$console" >&2
    die 73 "${verdict:-the console of $instance shows no verdict}: no image is made"
  fi
  say "validated"
}

# make_image -- makes the image of the stopped instance, and waits until it can be used
make_image() {
  local state deadline=$((SECONDS + image_limit_min * 60))
  imaging=true
  image=$(ask ec2 create-image --instance-id "$instance" --name "$name" \
    --description "bpcp $(bpcp_version) $commit on $base_name" \
    --tag-specifications "$(tags image)" "$(tags snapshot)" --query ImageId)
  say "image     $image ($name)"
  # instances of it require IMDSv2, whatever their launch says
  ask ec2 modify-image-attribute --image-id "$image" --imds-support v2.0
  while true; do
    state=$(look ec2 describe-images --image-ids "$image" --query 'Images[0].State')
    case $state in
      available) break ;;
      pending) ;;
      *) die 73 "$image is $state" ;;
    esac
    [[ $SECONDS -lt $deadline ]] || die 73 "$image was not there after $image_limit_min minutes"
    pause
  done
}

# --- the end ----------------------------------------------------------------------------------

# insist ARG... -- runs `aws ARG...` up to three times; in a trap a bare return would give what was
# before it
insist() {
  local try
  for try in 1 2 3; do
    call "$@" >/dev/null && return 0
    [[ $try -eq 3 ]] || sleep "$poll_s"
  done
  return 1
}

# tagged KIND -- prints the ids of this bake's instances, images or snapshots
tagged() {
  local filter="Name=tag:bpcp-bake,Values=$token"
  case $1 in
    instances)
      call ec2 describe-instances --filters "$filter" \
        Name=instance-state-name,Values=pending,running,stopping,stopped \
        --query 'Reservations[].Instances[].InstanceId'
      ;;
    images) call ec2 describe-images --owners self --filters "$filter" --query 'Images[].ImageId' ;;
    # AWS says so of each snapshot that create-image makes, also before the image names it
    snapshots)
      call ec2 describe-snapshots --owner-ids self --query 'Snapshots[].SnapshotId' \
        --filters "Name=description,Values=Created by CreateImage($instance) for *"
      ;;
  esac
}

# find_tagged KIND -- the same, up to three times, for what was made a moment ago; fails where AWS
# gave no answer
find_tagged() {
  local try ids='' answered
  for try in 1 2 3; do
    answered=true
    ids=$(tagged "$1") || answered=false
    [[ -z $ids ]] || break
    [[ $try -eq 3 ]] || sleep "$poll_s"
  done
  printf '%s\n' "$ids"
  $answered
}

# terminate -- terminates the instance; where its id never came back, the one with this bake's tag
terminate() {
  local ids=$instance
  if [[ -z $ids ]]; then
    ids=$(find_tagged instances) || return 1
  fi
  [[ -n $ids ]] || return 0
  # shellcheck disable=SC2086 # one word for each instance
  insist ec2 terminate-instances --instance-ids $ids || return 1
  say "terminate $ids"
}

# remove_image -- removes an image that was not finished, with its snapshots
remove_image() {
  local ids=$image snapshots id
  if [[ -z $ids ]]; then
    ids=$(find_tagged images) || return 1
  fi
  for id in $ids; do
    insist ec2 deregister-image --image-id "$id" || return 1
    say "removed   $id, which was not finished"
  done
  [[ -n $ids ]] || return 0
  snapshots=$(find_tagged snapshots) || return 1
  for id in $snapshots; do
    insist ec2 delete-snapshot --snapshot-id "$id" || return 1
  done
}

# close_bake -- removes everything but a finished image; runs at every end
close_bake() {
  local code=$? left=()
  trap '' HUP INT TERM
  set +e
  if $launched && ! terminate; then
    left+=("an instance may be RUNNING AND COSTING: aws ec2 terminate-instances --instance-ids ${instance:-…} (tag bpcp-bake=$token)")
  fi
  if $imaging && ! $image_done && ! remove_image; then
    left+=("an unfinished image: aws ec2 deregister-image --image-id ${image:-…}, and its snapshots (tag bpcp-bake=$token)")
  fi
  if [[ -n $uploaded ]] && ! insist s3 rm --only-show-errors "$uploaded"; then
    left+=("the archive: aws s3 rm $uploaded")
  fi
  rm -rf -- "${scratch:-}"
  if [[ ${#left[@]} -gt 0 ]]; then
    printf 'bake.sh: could not be removed: %s\n' "${left[@]}" >&2
    code=74
  fi
  exit "$code"
}

main() {
  parse_options "$@"
  settle
  trap close_bake EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
  find_base
  if $dry_run; then
    archive_url=${archive:+https://…} archive_sum=''
    launch
    return
  fi
  upload
  launch
  await_stop
  read_verdict
  make_image
  image_done=true
  printf '%s\n' "$image"
}

main "$@"
