#!/usr/bin/env bash
# Summary: make the machine that this runs on into a bpcp image
#
# Usage: ami_setup/build.sh --this-machine [--commit ID] [--base NAME]
#        ami_setup/build.sh --list
#
# Runs every step in ami_setup/steps/ in the order of their numbers: the system, install.sh, the
# JVM's archive of classes and byte-code, clean, validate, version-info.json. Packer, bake.sh and
# `make ami-test` all run this. It REMOVES the machine's keys, host keys, passwords, history and
# logs: for a machine that is to be copied, never for one that is in use.
#
#   --this-machine  yes, this one; needs root
#   --commit ID     what version-info.json calls this checkout (default: git's HEAD, if it is one)
#   --base NAME     what version-info.json calls the image that this machine was started from
#   --list          print the steps, and run none
#   -h, --help      this text
#
# Exit status: 0 validated, ready to be copied; 64 wrong command line; 77 not root; or the exit
# status of the step that failed, after which no image must be made of this machine.
#
# Example: sudo /opt/bpcp/ami_setup/build.sh --this-machine
set -euo pipefail

here=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd)
# shellcheck source=bin/lib/common.bash
source "$here/../bin/lib/common.bash"

steps=${BPCP_STEPS:-$here/steps}
this_machine=false
list=false
commit=''
base=unknown

# parse_options ARG... -- reads the command line into the variables above
parse_options() {
  while [[ $# -gt 0 ]]; do
    case $1 in
      --this-machine) this_machine=true ;;
      --list) list=true ;;
      --commit | --base)
        need_value "$1" "${@:2:1}"
        printf -v "${1#--}" '%s' "$2"
        shift
        ;;
      -h | --help)
        print_help "${BASH_SOURCE[0]}"
        exit 0
        ;;
      *) die 64 "unknown option: $1" "ami_setup/build.sh --help" ;;
    esac
    shift
  done
}

# run_steps -- runs the steps; the first that fails ends the build with its exit code
run_steps() {
  local step code started
  for step in "$steps"/[0-9][0-9]-*.sh; do
    say "== ${step##*/}"
    started=$SECONDS
    code=0
    "$step" </dev/null || code=$?
    if [[ $code -ne 0 ]]; then
      die "$code" "${step##*/} failed with exit code $code: make no image of this machine"
    fi
    say "== ${step##*/}: $((SECONDS - started)) s"
  done
}

main() {
  parse_options "$@"
  if $list; then
    (cd -- "$steps" && printf '%s\n' [0-9][0-9]-*.sh)
    return
  fi
  if ! $this_machine; then
    die 64 "this removes keys, host keys, passwords, history and logs of this machine ($(uname -n))" \
      "if that is what it is for: ami_setup/build.sh --this-machine"
  fi
  if [[ $(id -u) -ne 0 ]]; then
    die 77 "only root can make a machine into an image" "sudo ami_setup/build.sh --this-machine"
  fi
  if [[ -z $commit ]]; then
    commit=$(git -C "$BPCP_ROOT" rev-parse HEAD 2>/dev/null) || commit=unknown
  fi
  # a clean step that is started by hand finds no word of this, and refuses
  export BPCP_IMAGE_BUILD=1 BPCP_IMAGE_COMMIT=$commit BPCP_IMAGE_BASE=$base
  umask 022
  cd /
  run_steps
  say "validated: this machine can be copied"
}

main "$@"
