#!/usr/bin/env bash
# Summary: build the machine image in a pristine root, and use it as an ordinary user
#
# Usage: tests/ami/pristine.sh [--root-tar FILE] [--keep] SYSTEM
#
# SYSTEM is debian-12 or ubuntu-22.04. Makes its root from packages, puts this checkout into it,
# and in a chroot with namespaces of its own runs every step of an image build (ami_setup/build.sh,
# the same that Packer and bake.sh run), then the demo as an ordinary user, then the validator.
# Where Ubuntu's archive cannot be had, that is said and nothing is tested. Needs root and 5 GB;
# about 8 minutes. Removes what it made at every end.
#
#   --root-tar FILE  take the root from FILE and do not make one
#   --keep           leave the root where it is, and say where
#   -h, --help       this text
#
# The apt and pip settings of this machine that name a mirror, a proxy or a certificate are passed
# on. BPCP_DEBIAN_MIRROR and BPCP_UBUNTU_MIRROR name other archives to make the roots from.
#
# Exit status: 0 passed, or skipped; 1 failed, or the exit status of what failed; 64 wrong command line; 69 a tool is missing;
# 77 not root.
set -euo pipefail

here=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd)
# shellcheck source=bin/lib/common.bash
source "$here/../../bin/lib/common.bash"

root_tar=''
keep=false
system=''
scratch=''
child=''

# parse_options ARG... -- reads the command line into the variables above
parse_options() {
  while [[ $# -gt 0 ]]; do
    case $1 in
      --root-tar)
        need_value "$1" "${@:2:1}"
        root_tar=$2
        shift
        ;;
      --keep) keep=true ;;
      -h | --help)
        print_help "${BASH_SOURCE[0]}"
        exit 0
        ;;
      debian-12 | ubuntu-22.04) system=$1 ;;
      *) die 64 "unknown option or system: $1" "tests/ami/pristine.sh --help" ;;
    esac
    shift
  done
  [[ -n $system ]] || die 64 "no system" "debian-12, ubuntu-22.04"
}

# --- from outside -----------------------------------------------------------------------------

# make_root SYSTEM DIR -- makes the root of SYSTEM in DIR, from packages
make_root() {
  if [[ -n $root_tar ]]; then
    tar -C "$2" --numeric-owner -xf "$root_tar"
    return
  fi
  case $1 in
    debian-12)
      debootstrap --variant=minbase bookworm "$2" "${BPCP_DEBIAN_MIRROR:-http://deb.debian.org/debian}"
      ;;
    ubuntu-22.04)
      # debootstrap takes the archive's key from its keyring package, where this machine has it
      debootstrap --variant=minbase --components=main,universe jammy "$2" \
        "${BPCP_UBUNTU_MIRROR:-http://archive.ubuntu.com/ubuntu}"
      ;;
  esac
}

# pip_settings -- prints the settings of pip, as environment, that name where packages come from
pip_settings() {
  local name value
  for name in index-url extra-index-url proxy trusted-host; do
    if value=$(python3 -m pip config get "global.$name" 2>/dev/null) && [[ $value != *file://* ]]; then
      printf 'PIP_%s=%s\0' "$(tr 'a-z-' 'A-Z_' <<<"$name")" "$value"
    fi
  done
  for name in PIP_INDEX_URL PIP_PROXY http_proxy https_proxy no_proxy; do
    [[ -z ${!name:-} ]] || printf '%s=%s\0' "$name" "${!name}"
  done
}

# pass_on DIR -- gives the root in DIR the network of this machine: resolver, mirrors, certificates
pass_on() {
  local file bundle
  cp -L -- /etc/resolv.conf "$1/etc/resolv.conf"
  for file in /etc/apt/apt.conf.d/*; do
    if grep -qs '^ *Acquire::' "$file"; then
      cp -- "$file" "$1/etc/apt/apt.conf.d/"
    fi
  done
  mkdir -p -- "$1/ami-test"
  bundle=${PIP_CERT:-${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}}
  if [[ -r $bundle ]]; then
    cp -L -- "$bundle" "$1/ami-test/certificates"
  fi
  pip_settings >"$1/ami-test/environment"
  # nothing in a chroot may start a service
  printf '#!/bin/sh\nexit 101\n' >"$1/usr/sbin/policy-rc.d"
  chmod +x -- "$1/usr/sbin/policy-rc.d"
}

# add_updates SYSTEM DIR -- lets apt also see what was mended since the release, as any machine does
add_updates() {
  local mirror
  if [[ -n $root_tar ]]; then
    return
  fi
  read -r _ mirror _ <"$2/etc/apt/sources.list"
  case $1 in
    debian-12)
      printf 'deb %s bookworm%s main\n' "$mirror" '' "$mirror" -updates >"$2/etc/apt/sources.list"
      printf 'deb %s bookworm-security main\n' "${mirror%/}-security" >>"$2/etc/apt/sources.list"
      ;;
    ubuntu-22.04)
      printf 'deb %s jammy%s main universe\n' "$mirror" '' "$mirror" -updates "$mirror" -security \
        >"$2/etc/apt/sources.list"
      ;;
  esac
}

# copy_checkout DIR -- puts what is here, not only what is committed, into the root in DIR
copy_checkout() {
  mkdir -p -- "$1/opt/bpcp"
  tar -C "$BPCP_ROOT" --exclude=./.git --exclude=./.venv --exclude=./demo --exclude=__pycache__ \
    --exclude='./.*_cache' -cf - . | tar -C "$1/opt/bpcp" --no-same-owner -xf -
}

# test_system -- builds in a fresh root of the system and looks at it
test_system() {
  local root=$scratch/root code=0 commit
  mkdir -- "$root"
  # a root that others may look into
  chmod 755 -- "$scratch" "$root"
  say "root      $system …"
  if ! make_root "$system" "$root" >"$scratch/log" 2>&1; then
    tail -n 5 -- "$scratch/log" >&2
    [[ $system != debian-12 ]] || die 1 "cannot make the root of $system"
    say "SKIPPED   $system: its root cannot be made here"
    return
  fi
  pass_on "$root"
  add_updates "$system" "$root"
  copy_checkout "$root"
  commit=$(git -C "$BPCP_ROOT" rev-parse HEAD 2>/dev/null) || commit=unknown
  # --kill-child: with this script all in the chroot ends, and with it all that is mounted there
  unshare --mount --pid --fork --uts --ipc --kill-child "${BASH_SOURCE[0]}" --inside "$root" "$system" "$commit" &
  child=$!
  wait "$child" || code=$?
  child=''
  return "$code"
}

# close_test -- ends what still runs and removes what was made; runs at every end
close_test() {
  local code=$?
  trap '' HUP INT TERM
  if [[ -n $child ]]; then
    # unshare passes no other signal by; all that it started ends with it
    kill -KILL "$child" 2>/dev/null || true
    wait "$child" 2>/dev/null || true
  fi
  if $keep; then
    say "kept      $scratch"
  else
    rm -rf --one-file-system -- "$scratch"
  fi
  exit "$code"
}

# --- inside the namespaces --------------------------------------------------------------------

# mount_all DIR -- gives the root in DIR a /proc, a /dev and a /sys of its own
mount_all() {
  local node
  mount --make-rprivate /
  mount --bind -- "$1" "$1"
  mount -t proc proc "$1/proc"
  mount -t tmpfs -o mode=755 tmpfs "$1/dev"
  mkdir -- "$1/dev/pts" "$1/dev/shm"
  mount -t devpts -o newinstance,ptmxmode=666 devpts "$1/dev/pts"
  mount -t tmpfs -o mode=1777 tmpfs "$1/dev/shm"
  for node in null zero full random urandom tty; do
    : >"$1/dev/$node"
    mount --bind -- "/dev/$node" "$1/dev/$node"
  done
  ln -s pts/ptmx "$1/dev/ptmx"
  ln -s /proc/self/fd "$1/dev/fd"
  mount -t tmpfs tmpfs "$1/run"
}

# in_root COMMAND... -- runs COMMAND in the chroot, with the environment of a machine that just booted
in_root() {
  local settings=()
  mapfile -d '' -t settings <"$root/ami-test/environment"
  if [[ -r $root/ami-test/certificates ]]; then
    settings+=(PIP_CERT=/ami-test/certificates)
  fi
  chroot "$root" /usr/bin/env -i HOME=/root LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    "${settings[@]}" "$@" </dev/null
}

# as_bpcp COMMAND... -- runs COMMAND in the chroot as a login of the user bpcp
as_bpcp() {
  # shellcheck disable=SC2016 # for the login shell to expand
  in_root setpriv --reuid=bpcp --regid=bpcp --init-groups env HOME=/tmp/demo bash -lc 'cd /tmp/demo && "$@"' -- "$@"
}

# leave_traces -- puts into the root what people leave who build an image: the validator must find
# it, and the clean step must take it away
leave_traces() {
  mkdir -p -- "$root/root/.ssh" "$root/etc/ssh"
  printf 'ssh-ed25519 AAAA somebody\n' >"$root/root/.ssh/authorized_keys"
  printf 'history\n' >"$root/root/.bash_history"
  printf '%s\n' '-----BEGIN OPENSSH PRIVATE KEY-----' >"$root/etc/ssh/ssh_host_ed25519_key"
  in_root sh -c 'echo root:secret | chpasswd'
}

# inside DIR SYSTEM COMMIT -- the test itself
inside() {
  root=$1
  mount_all "$root"
  hostname ami-test
  leave_traces

  say "build     $2 …"
  in_root /opt/bpcp/ami_setup/build.sh --this-machine --commit "$3" --base "$2" >"$root/ami-test/log" 2>&1 || {
    local code=$?
    tail -n 40 -- "$root/ami-test/log" >&2
    return "$code"
  }
  grep -E '^(== .* s$|ok |CellProfiler takes|removed|checked)' "$root/ami-test/log"

  say "demo      as the user bpcp …"
  in_root install -d -o bpcp -g bpcp /tmp/demo
  as_bpcp bpcp demo /tmp/demo/screen
  as_bpcp run_analysis_pipeline.sh -d demo -p /tmp/demo/screen/pipelines/demo.cppipe -q
  as_bpcp bpcp demo --check /tmp/demo/screen
  in_root sh -c 'rm -rf /tmp/demo /tmp/hsperfdata_bpcp'

  say "validate  $2 …"
  in_root /opt/bpcp/ami_setup/validate.sh --image
  in_root python3 -c 'import json
info = json.load(open("/opt/bpcp/version-info.json"))
debian, python, files = info["debian_packages"], info["python_packages"], info["files"]
print("version-info:", len(debian), "Debian packages,", sum(map(len, python.values())),
      "Python packages,", len(files), "files of bpcp at", info["commit"])'
  say "passed    $2"
}

main() {
  if [[ ${1:-} == --inside ]]; then
    shift
    inside "$@"
    return
  fi
  parse_options "$@"
  if [[ $(id -u) -ne 0 ]]; then
    die 77 "NOT TESTED: only root can make a root and run in it" "sudo make ami-test"
  fi
  type -P debootstrap >/dev/null || [[ -n $root_tar ]] || die 69 "there is no debootstrap" "apt-get install debootstrap"
  scratch=$(mktemp -d)
  trap close_test EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
  test_system
}

main "$@"
