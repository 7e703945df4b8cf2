#!/usr/bin/env bash
# Takes away what belongs to this one machine and to those who built it: everything that
# ami_setup/image.bash lists, all passwords, and the machine's id.
set -euo pipefail

here=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/.." && pwd)
# shellcheck source=bin/lib/common.bash
source "$here/../bin/lib/common.bash"
# shellcheck source=ami_setup/image.bash
source "$here/image.bash"

# the tests clean a folder
root=${BPCP_IMAGE_ROOT:-}
checkout=${BPCP_IMAGE_ROOT:+$BPCP_IMAGE_ROOT/opt/bpcp}
checkout=${checkout:-$BPCP_ROOT}

# quiet_logs -- lets nobody write to /var/log any more
quiet_logs() {
  if [[ -d /run/systemd/system ]]; then
    # not every base has these, and what they left is looked for below and by the validator
    systemctl stop syslog.socket rsyslog.service 2>/dev/null || true
    journalctl --relinquish-var || true
  fi
}

# lock_passwords -- leaves no account that a password, or none, would open
lock_passwords() {
  local shadow=$root/etc/shadow
  awk -F : -v OFS=: '$2 !~ /^[!*]+$/ { $2 = "!*" } 1' "$shadow" >"$shadow.new"
  # into the same file: it keeps its owner and mode
  cat -- "$shadow.new" >"$shadow"
  # passwd and useradd leave the old ones beside it
  rm -f -- "$shadow.new" "$shadow-" "$root/etc/gshadow-"
}

main() {
  if [[ -z ${BPCP_IMAGE_BUILD:-} ]]; then
    die 64 "this step is for ami_setup/build.sh to run" "ami_setup/build.sh --help"
  fi
  local path count=0
  if [[ -z $root ]]; then
    quiet_logs
    apt-get -q clean
  fi
  while IFS= read -r -d '' _ && IFS= read -r -d '' path; do
    rm -rf -- "$path"
    count=$((count + 1))
  done < <(leftovers "$root" "$checkout")
  lock_passwords
  # empty, not missing: systemd gives each copy its own, and takes the first boot for one
  : >"$root/etc/machine-id"
  say "removed $count files and folders"
}

main "$@"
