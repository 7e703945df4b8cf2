# shellcheck shell=bash disable=SC2154 # bake.sh sets what begins with BAKE_
# The body of the user-data that ami_setup/bake.sh starts its instance with; bake.sh puts the
# values of BAKE_* before it. Root runs it at first boot. It makes the instance into an image,
# prints the verdict on the console, and powers the instance off, however that ends.

# fetch -- gets the checkout into /opt/bpcp
fetch() {
  mkdir -p /opt/bpcp
  cd /opt/bpcp
  if [[ -n $BAKE_ARCHIVE_URL ]]; then
    python3 -c 'import sys, urllib.request
urllib.request.urlretrieve(sys.argv[1], "/run/bpcp-bake/checkout")' "$BAKE_ARCHIVE_URL"
    printf '%s  /run/bpcp-bake/checkout\n' "$BAKE_ARCHIVE_SHA256" | sha256sum --check --strict
    tar --no-same-owner -xzf /run/bpcp-bake/checkout
  else
    export DEBIAN_FRONTEND=noninteractive
    apt-get -q -y -o DPkg::Lock::Timeout=300 update
    apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends ca-certificates git
    git init -q
    # a commit's name is its checksum
    git fetch -q --depth 1 "$BAKE_GIT_URL" "$BAKE_COMMIT"
    git checkout -q FETCH_HEAD
  fi
}

# close_build -- prints the verdict and powers off
close_build() {
  local code=$?
  trap '' HUP INT TERM
  set +e
  if [[ $code -eq 0 ]]; then
    printf '\nbpcp-bake %s validated\n' "$BAKE_TOKEN"
  else
    printf '\nbpcp-bake %s failed with exit code %s\n' "$BAKE_TOKEN" "$code"
  fi
  # for the console to be read
  sleep 5
  sync
  systemctl poweroff
}

# build -- fetches the checkout and runs its steps
build() {
  exec >/dev/console 2>&1
  trap close_build EXIT
  # what cloud-init leaves can be taken away only when it is done; how it ended is not this one's
  # affair, the steps find out what they lack
  cloud-init status --wait >/dev/null || true
  (fetch)
  /opt/bpcp/ami_setup/build.sh --this-machine --commit "$BAKE_COMMIT" --base "$BAKE_BASE"
}

# start -- arms the time limit, and goes on outside of cloud-init, from a copy that is in no image
start() {
  shutdown -P "+$BAKE_TIME_LIMIT_MIN"
  install -D -m 700 -- "$0" /run/bpcp-bake/build
  systemd-run --quiet --unit=bpcp-bake /bin/bash /run/bpcp-bake/build build
}

set -euo pipefail
"${1:-start}"
