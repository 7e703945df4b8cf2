#!/usr/bin/env bats
# The spot notice, from a local server that answers as the metadata service of EC2 does (IMDSv2).
# shellcheck disable=SC2030,SC2031,SC2154 # each test is a subshell of its own; screen.bash sets names

load screen

# notice SECONDS -- starts a metadata service whose instance ends SECONDS after the notice, which it
# gives once the file `now` is there
notice() {
  "$root/tests/servers/metadata.py" "$BATS_TEST_TMPDIR/now" "$1" >"$BATS_TEST_TMPDIR/address" 3>&- &
  service=$!
  until_true test -s "$BATS_TEST_TMPDIR/address"
  AWS_EC2_METADATA_SERVICE_ENDPOINT=$(<"$BATS_TEST_TMPDIR/address")
  export AWS_EC2_METADATA_SERVICE_ENDPOINT
}

stop_service() {
  if [[ -n ${service:-} ]]; then
    kill "$service"
    wait "$service" || true
    service=
  fi
}

@test "a spot notice: chunks that run end, no new ones start, 75; the next start goes on" {
  notice 120
  slow=4 begin -P 1
  touch "$BATS_TEST_TMPDIR/now"
  ended
  stop_service
  assert_equal "$code" 75
  [[ $said == *'spot notice: this instance will terminate in '*' s; no new chunks'* ]]
  [[ $said == *'go on with: '* ]]
  clean
  assert_equal "$(find "$state/chunks" -name done.json | wc -l)" 1
  unset AWS_EC2_METADATA_SERVICE_ENDPOINT
  go
  assert_success
  complete 6
}

@test "a chunk that would run beyond the end is ended in time" {
  notice 52
  local before
  before=$(date +%s)
  begin -P 1
  touch "$BATS_TEST_TMPDIR/now"
  ended
  stop_service
  assert_equal "$code" 75
  # long before the image set would have ended
  assert [ $(($(date +%s) - before)) -lt 50 ]
  assert_equal "$(find "$state/chunks" -name done.json | wc -l)" 0
  clean
}

@test "without a notice a run is as ever, also where the service does not answer" {
  notice 120
  go
  assert_success
  stop_service
  rm -rf "$base/status" "$analysis"
  go
  assert_success
  complete 6
}
