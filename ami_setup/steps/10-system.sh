#!/usr/bin/env bash
# The system: today's packages, and what an image needs beside install.sh's.
set -euo pipefail

# an upgrade in the middle of a run would change what it computes with: an image is
# replaced by a newer one, never patched by itself
timers=(apt-daily.timer apt-daily-upgrade.timer)

main() {
  export DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=a
  local apt=(apt-get -q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confold)
  "${apt[@]}" update
  "${apt[@]}" upgrade --with-new-pkgs
  "${apt[@]}" install --no-install-recommends cloud-init mdadm udev xfsprogs
  "${apt[@]}" autoremove
  # a machine for tests may have it switched off
  rm -f /etc/cloud/cloud-init.disabled
  if command -v systemctl >/dev/null; then
    systemctl mask "${timers[@]}"
  fi
}

main "$@"
