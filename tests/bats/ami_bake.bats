#!/usr/bin/env bats
# ami_setup/bake.sh with the real aws command against moto, a stand-in for EC2 and S3 on loopback.
# Nothing happens behind moto's API: no user-data runs. So a fake `aws` stands before the real one.
# It plays the instance's part (it has powered itself off when it is first looked at, and its
# console shows a verdict), and it makes one call fail, or lose its answer.
# shellcheck disable=SC2016,SC2030,SC2031,SC2154 # fakes are quoted scripts; each test is a subshell of its own

setup_file() {
  # one server, and one at a time
  export BATS_NO_PARALLELIZE_WITHIN_FILE=true
  local root bin
  root=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
  bin=${BPCP_VENV:-$root/.venv}/bpcp/bin
  export PYTHON=$bin/python REAL_AWS=$bin/aws
  export AWS_ACCESS_KEY_ID=testing AWS_SECRET_ACCESS_KEY=testing AWS_EC2_METADATA_DISABLED=true
  export AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null AWS_MAX_ATTEMPTS=1
  "$PYTHON" - >"$BATS_FILE_TMPDIR/amis.json" <<'END'
import json
names = [("debian-12-amd64-20250101-1", "136693071363", "2025-01-01"),
         ("debian-12-amd64-20260101-2", "136693071363", "2026-01-01"),
         ("debian-12-arm64-20260101-2", "136693071363", "2026-01-01"),
         ("debian-12-amd64-20270101-evil", "666666666666", "2027-01-01")]
print(json.dumps([dict(ami_id=f"ami-0000000{n}", name=name, owner_id=owner, public=True,
                       creation_date=f"{day}T00:00:00.000Z", root_device_type="ebs",
                       root_device_name="/dev/xvda", virtualization_type="hvm",
                       architecture="x86_64", state="available")
                  for n, (name, owner, day) in enumerate(names)]))
END
  PORT=$("$PYTHON" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  export PORT
  local server=("$PYTHON" -m moto.server -H 127.0.0.1 -p "$PORT")
  # where it can be in a network of its own, from which nothing leaves this machine; every call names
  # the address in any case
  export ISOLATED=
  if unshare --net ip link set lo up 2>/dev/null; then
    ISOLATED=yes
    server=(unshare --net bash -c 'ip link set lo up && exec "$@"' -- "${server[@]}")
  fi
  export RECORDING=$BATS_FILE_TMPDIR/recording
  MOTO_AMIS_PATH=$BATS_FILE_TMPDIR/amis.json MOTO_RECORDER_FILEPATH=$RECORDING "${server[@]}" >"$BATS_FILE_TMPDIR/moto.log" 2>&1 3>&- &
  export MOTO_PID=$!
  local tries=0
  until moto_api GET /moto-api/data.json >/dev/null 2>&1; do
    if [[ $((tries += 1)) -gt 100 ]]; then
      cat "$BATS_FILE_TMPDIR/moto.log" >&2
      return 1
    fi
    sleep 0.1
  done
}

teardown_file() {
  kill "$MOTO_PID"
}

setup() {
  bats_require_minimum_version 1.5.0
  export BATS_LIB_PATH=${BATS_LIB_PATH:-/usr/lib/bats}
  load "$BATS_LIB_PATH/bats-support/load"
  load "$BATS_LIB_PATH/bats-assert/load"
  root=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
  export HOME=$BATS_TEST_TMPDIR/home TMPDIR="$BATS_TEST_TMPDIR/it's tmp" CALLS=$BATS_TEST_TMPDIR/calls
  export STATE=$BATS_TEST_TMPDIR/state BPCP_POLL_S=0
  mkdir -p "$HOME" "$TMPDIR" "$STATE" "$BATS_TEST_TMPDIR/bin"
  : >"$CALLS"
  unset FAIL FAIL_TIMES LOSE STOP CONSOLE POWERS_OFF BPCP_VENV
  make_checkout
  make_fake_aws
  PATH=$BATS_TEST_TMPDIR/bin:$PATH
  moto_api POST /moto-api/reset >/dev/null
}

# inside COMMAND... -- runs COMMAND in moto's network
inside() {
  if [[ -n $ISOLATED ]]; then
    nsenter --net="/proc/$MOTO_PID/ns/net" "$@"
  else
    "$@"
  fi
}

# moto_api METHOD PATH -- asks moto itself
moto_api() {
  inside "$PYTHON" -c 'import sys, urllib.request
request = urllib.request.Request(f"http://127.0.0.1:{sys.argv[3]}{sys.argv[2]}", method=sys.argv[1],
                                 data=b"" if sys.argv[1] == "POST" else None)
print(urllib.request.urlopen(request, timeout=5).read().decode())' "$1" "$2" "$PORT"
}

# make_checkout -- a git checkout with nothing in it but what bake.sh reads
make_checkout() {
  checkout=$BATS_TEST_TMPDIR/checkout
  mkdir -p "$checkout/bpcp" "$checkout/bin/lib"
  cp -R "$root/ami_setup" "$checkout/"
  cp "$root/bin/lib/common.bash" "$checkout/bin/lib/"
  cp "$root/bpcp/__init__.py" "$checkout/bpcp/"
  git -C "$checkout" init -q
  git -C "$checkout" add .
  git -C "$checkout" -c user.name=t -c user.email=t@example.org commit -q -m t
}

# make_fake_aws -- the fake before the real aws
make_fake_aws() {
  cat >"$BATS_TEST_TMPDIR/bin/aws" <<'END'
#!/usr/bin/env bash
# a fake before the real aws: FAIL=operation fails FAIL_TIMES times (default: always), LOSE=operation
# is carried out but its answer is lost, STOP=operation is carried out and then bake.sh gets TERM
set -u
words=" $* "
[[ $words =~ \ (ec2|s3)\ ([a-z0-9-]+)\  ]] || exit 70
operation=${BASH_REMATCH[2]}
printf '%s\n' "$operation" >>"$CALLS"
global=(--endpoint-url "http://127.0.0.1:$PORT" --region us-east-1)
if [[ ${FAIL:-} == "$operation" ]]; then
  count=$(cat "$STATE/failed" 2>/dev/null || echo 0)
  if [[ $count -lt ${FAIL_TIMES:-99} ]]; then
    echo $((count + 1)) >"$STATE/failed"
    echo "An error occurred (Injected) when calling $operation" >&2
    exit 254
  fi
fi
args=()
for word in "$@"; do
  # moto has no tags for these
  [[ $word == ResourceType=snapshot,* ]] || args+=("$word")
done
case $operation in
  run-instances)
    [[ $words =~ --client-token\ ([^ ]+) ]] && echo "${BASH_REMATCH[1]}" >"$STATE/token"
    [[ $words =~ file://(.*/user-data) ]] && cp "${BASH_REMATCH[1]}" "$STATE/user-data"
    ;;
  describe-instances)
    if [[ $words =~ --instance-ids\ (i-[0-9a-f]+) && ${POWERS_OFF:-yes} == yes ]]; then
      "$REAL_AWS" "${global[@]}" ec2 stop-instances --instance-ids "${BASH_REMATCH[1]}" >/dev/null
    fi
    ;;
  get-console-output)
    "$REAL_AWS" "$@" >/dev/null || exit
    printf 'booting\nbpcp-bake %s %s\r\nPower down\n' "$(cat "$STATE/token")" "${CONSOLE:-validated}"
    exit
    ;;
esac
"$REAL_AWS" "${args[@]}"
code=$?
if [[ ${STOP:-} == "$operation" ]]; then
  kill -TERM "$(cat "$STATE/pid")"
fi
if [[ ${LOSE:-} == "$operation" ]]; then
  exit 255
fi
exit $code
END
  chmod +x "$BATS_TEST_TMPDIR/bin/aws"
}

# bake ARG... -- runs bake.sh against moto
bake() {
  inside bash -c 'echo $$ >"$STATE/pid"; exec "$@"' -- "$checkout/ami_setup/bake.sh" \
    --endpoint-url "http://127.0.0.1:$PORT" --region us-east-1 "$@"
}

# left -- prints every instance that is not terminated, and every image, snapshot and object of ours
left() {
  inside "$PYTHON" - "$PORT" <<'END'
import sys, boto3
access = dict(endpoint_url=f"http://127.0.0.1:{sys.argv[1]}", region_name="us-east-1")
ec2, s3 = boto3.client("ec2", **access), boto3.client("s3", **access)
for group in ec2.describe_instances()["Reservations"]:
    for one in group["Instances"]:
        if one["State"]["Name"] not in ("terminated", "shutting-down"):
            print("instance", one["State"]["Name"])
for one in ec2.describe_images(Owners=["self"])["Images"]:
    print("image", one["Name"])
for one in ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]:
    if one["Description"].startswith("Created by CreateImage"):
        print("snapshot of an image")
for bucket in s3.list_buckets()["Buckets"]:
    for one in s3.list_objects_v2(Bucket=bucket["Name"]).get("Contents", []):
        print("object", one["Key"])
END
}

# actions -- prints the actions that moto has recorded, and that a policy must name, one a line
actions() {
  "$PYTHON" - "$RECORDING" <<'END'
import base64, json, sys, urllib.parse
methods = {"PUT": "s3:PutObject", "GET": "s3:GetObject", "DELETE": "s3:DeleteObject"}
found = set()
for line in open(sys.argv[1]):
    one = json.loads(line)
    body = urllib.parse.parse_qs(base64.b64decode(one["body"] or "").decode("latin-1"))
    if "Action" in body:
        found.add("ec2:" + body["Action"][0])
        if any(key.startswith("TagSpecification") for key in body):
            found.add("ec2:CreateTags")
    elif "/the-bucket/" in one["url"]:
        found.add(methods[one["method"]])
print("\n".join(sorted(found)))
END
}

# allowed FILE -- prints the actions that a policy allows, one a line
allowed() {
  "$PYTHON" - "$1" <<'END'
import json, sys
found = set()
for one in json.load(open(sys.argv[1]))["Statement"]:
    found |= {one["Action"]} if isinstance(one["Action"], str) else set(one["Action"])
print("\n".join(sorted(found)))
END
}

@test "bake: help; wrong words, and what is not there, end it before any call" {
  run "$checkout/ami_setup/bake.sh" --help
  assert_success
  assert_line --partial 'Exit status:'
  run -64 bake --nonsense
  run -64 bake
  assert_output --partial '--git or --archive'
  run -64 bake --git u --archive s3://b/p
  run -64 bake --archive bucket
  run -64 bake --git
  run -64 bake --git u --base windows
  assert_output --partial 'debian-12, ubuntu-22.04'
  run -64 bake --git u --arch m68k
  run -64 bake --git u --volume-gb many
  run -64 bake --git u --time-limit-min 0
  run -64 bake --git u --name 'a,b'
  run -66 bake --git u --commit 0123456
  assert_output --partial 'no such commit'
  run cat "$CALLS"
  assert_output ''
}

@test "bake: no aws command: 69" {
  local tool
  mkdir "$BATS_TEST_TMPDIR/few"
  for tool in bash env sed git dirname basename readlink; do
    ln -s "$(type -P "$tool")" "$BATS_TEST_TMPDIR/few/$tool"
  done
  PATH=$BATS_TEST_TMPDIR/few run -69 "$checkout/ami_setup/bake.sh" --git u
  assert_output --partial 'there is no aws command'
}

@test "bake: an image comes of it, from the owner's newest base, and nothing else is left" {
  run --separate-stderr bake --git https://example.org/bpcp.git --name the-image
  assert_success
  assert_output --regexp '^ami-[0-9a-f]+$'
  assert_regex "$stderr" 'base +ami-00000001 \(debian-12-amd64-20260101-2\)'
  assert_regex "$stderr" 'terminate i-'
  run left
  assert_output $'image the-image\nsnapshot of an image'
  run find "$TMPDIR" -mindepth 1
  assert_output ''
}

@test "bake: the instance requires IMDSv2, is encrypted, has no key and no role, and stops by itself" {
  run bake --git https://example.org/bpcp.git
  assert_success
  run inside "$PYTHON" - "$PORT" <<'END'
import sys, boto3
ec2 = boto3.client("ec2", endpoint_url=f"http://127.0.0.1:{sys.argv[1]}", region_name="us-east-1")
one = ec2.describe_instances()["Reservations"][0]["Instances"][0]
print(one["MetadataOptions"]["HttpTokens"], one["MetadataOptions"]["HttpPutResponseHopLimit"])
print("KeyName" in one, "IamInstanceProfile" in one)
print(sorted(tag["Key"] for tag in one["Tags"]))
END
  assert_line --index 0 'required 1'
  assert_line --index 1 'False False'
  assert_line --index 2 "['Name', 'bpcp-bake', 'bpcp-base', 'bpcp-commit', 'bpcp-version']"
  run bake --git https://example.org/bpcp.git --dry-run --kms-key a/key --subnet subnet-1 --security-group sg-1
  assert_output --partial 'Encrypted=true,DeleteOnTermination=true,KmsKeyId=a/key'
  assert_output --partial "--instance-initiated-shutdown-behavior' 'stop'"
  assert_output --partial "'--subnet-id' 'subnet-1' '--security-group-ids' 'sg-1'"
  refute_output --partial -- --key-name
}

@test "bake: the user-data is a script with the commit in it, holds no key, and is small enough" {
  run bake --git "https://example.org/it's \$(bpcp).git"
  assert_success
  run bash -n "$STATE/user-data"
  assert_success
  assert [ "$(stat -c %s "$STATE/user-data")" -lt 16384 ]
  run head -n 1 "$STATE/user-data"
  assert_output '#!/bin/bash'
  run grep -c "BAKE_COMMIT=$(git -C "$checkout" rev-parse HEAD)" "$STATE/user-data"
  assert_output 1
  run bash -c 'source <(grep ^BAKE_GIT_URL= "$1"); printf "%s\n" "$BAKE_GIT_URL"' -- "$STATE/user-data"
  assert_output "https://example.org/it's \$(bpcp).git"
  run grep -iE 'testing|secret_access_key' "$STATE/user-data"
  assert_failure
}

@test "bake: --archive puts the commit's files into the bucket, for the time of the build" {
  inside "$REAL_AWS" --endpoint-url "http://127.0.0.1:$PORT" --region us-east-1 s3 mb s3://the-bucket
  run bake --archive s3://the-bucket/some/where/
  assert_success
  assert_output --partial 'upload    s3://the-bucket/some/where/bake-'
  run grep -E '^BAKE_ARCHIVE_(URL=http.*Signature=|SHA256=[0-9a-f]{64}$)' "$STATE/user-data"
  assert_success
  run left
  refute_output --partial object
}

@test "bake: --dry-run starts nothing" {
  run bake --git u --dry-run
  assert_success
  assert_output --partial "would     aws 'ec2' 'run-instances'"
  run cat "$CALLS"
  assert_output describe-images
}

@test "bake: a region without the base image: 66" {
  run -66 bake --git u --base ubuntu-22.04
  assert_output --partial '099720109477 has no image'
}

@test "bake: a step of AWS fails: no instance, image, snapshot or archive is left, whichever it is" {
  inside "$REAL_AWS" --endpoint-url "http://127.0.0.1:$PORT" --region us-east-1 s3 mb s3://the-bucket
  local step source
  for step in 's3 cp' 's3 presign' 'ec2 describe-images' 'ec2 run-instances' 'ec2 describe-instances' \
    'ec2 get-console-output' 'ec2 create-image' 'ec2 modify-image-attribute'; do
    rm -f "$STATE/failed"
    source=(--git u)
    [[ $step != s3* ]] || source=(--archive s3://the-bucket/here)
    FAIL=${step#* } run -69 bake "${source[@]}"
    assert_output --partial 'Injected'
    assert_output --partial "failed: aws $step"
    run left
    assert_output ''
  done
}

@test "bake: a step that fails once is asked again where that is safe" {
  local step
  for step in describe-instances terminate-instances; do
    rm -f "$STATE/failed"
    FAIL=$step FAIL_TIMES=1 run bake --git u --name "once-$step"
    assert_success
  done
  run left
  refute_output --partial 'instance '
}

@test "bake: the answer of run-instances or create-image is lost: what it made is found and removed" {
  LOSE=run-instances run -69 bake --git u
  assert_output --partial 'terminate i-'
  run left
  assert_output ''
  LOSE=create-image run -69 bake --git u
  assert_output --partial 'which was not finished'
  run left
  assert_output ''
}

@test "bake: a signal at any step ends it with 143, and nothing is left" {
  local step
  for step in run-instances describe-instances create-image; do
    STOP=$step run -143 bake --git u
    run left
    assert_output ''
  done
}

@test "bake: a build that failed, or whose verdict cannot be read, makes no image" {
  CONSOLE='failed with exit code 69' run -73 bake --git u
  assert_output --partial 'failed with exit code 69: no image is made'
  assert_output --partial 'booting'
  run left
  assert_output ''
  # another bake's verdict
  sed -i 's/^readonly image_limit_min.*/readonly image_limit_min=60 console_limit_min=0/' "$checkout/ami_setup/bake.sh"
  sed -i 's/bpcp-bake %s %s/bpcp-bake x%s %s/' "$BATS_TEST_TMPDIR/bin/aws"
  run -73 bake --git u
  assert_output --partial 'shows no verdict: no image is made'
  run left
  assert_output ''
}

@test "bake: an instance that never ends, or that somebody else ends: 73" {
  # no minutes to wait
  sed -i 's/(time_limit_min + 15) \* 60/0/' "$checkout/ami_setup/bake.sh"
  POWERS_OFF=no run -73 bake --git u
  assert_output --partial 'did not end within'
  run left
  assert_output ''
  sed -i 's/stop-instances/terminate-instances/' "$BATS_TEST_TMPDIR/bin/aws"
  run -73 bake --git u
  assert_output --partial 'somebody else ended it'
}

@test "bake: what cannot be removed is named with the command that does it: 74" {
  inside "$REAL_AWS" --endpoint-url "http://127.0.0.1:$PORT" --region us-east-1 s3 mb s3://the-bucket
  FAIL=terminate-instances run -74 bake --git u
  assert_output --regexp 'RUNNING AND COSTING: aws ec2 terminate-instances --instance-ids i-[0-9a-f]+'
  FAIL='rm' run -74 bake --archive s3://the-bucket/here
  assert_output --partial 'the archive: aws s3 rm s3://the-bucket/here/bake-'
  sed -i 's/\[\[ ${FAIL:-} == "$operation" \]\]/[[ " ${FAIL:-} " == *" $operation "* ]]/' "$BATS_TEST_TMPDIR/bin/aws"
  FAIL='modify-image-attribute deregister-image' run -74 bake --git u
  assert_output --regexp 'unfinished image: aws ec2 deregister-image --image-id ami-'
  # looking for a lost instance gets no answer
  rm -f "$STATE/failed"
  FAIL='run-instances describe-instances' run -74 bake --git u
  assert_output --partial 'RUNNING AND COSTING'
}

@test "bake: iam/bake.json allows each call that was seen at the stand-in, and no other" {
  inside "$REAL_AWS" --endpoint-url "http://127.0.0.1:$PORT" --region us-east-1 s3 mb s3://the-bucket
  moto_api POST /moto-api/recorder/reset-recording >/dev/null
  moto_api POST /moto-api/recorder/start-recording >/dev/null
  run bake --archive s3://the-bucket/here
  assert_success
  # the instance, which does not run here, gets the archive with the signature of who bakes
  run inside bash -c 'source <(grep ^BAKE_ARCHIVE_URL= "$1")
    "$PYTHON" -c "import sys, urllib.request; urllib.request.urlopen(sys.argv[1])" "$BAKE_ARCHIVE_URL"' -- "$STATE/user-data"
  # it was removed at the end; asking for it was allowed
  assert_output --partial 404
  FAIL=modify-image-attribute run bake --git u
  moto_api POST /moto-api/recorder/stop-recording >/dev/null
  # what the fake did in the instance's name is nobody's right
  diff <(actions | grep -v ec2:StopInstances) \
    <(allowed "$root/ami_setup/iam/bake.json")
}

@test "policies: each is JSON, names no account, and the instance's none of its resources by *" {
  local file
  for file in "$root"/ami_setup/iam/*.json; do
    run "$PYTHON" -m json.tool "$file"
    assert_success
    run grep -E '[0-9]{12}"|\b(AKIA|ASIA)' "$file"
    assert_failure
  done
  run grep -c '"\*"' "$root/ami_setup/iam/run-instance.json"
  assert_output 0
}
