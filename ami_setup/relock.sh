#!/usr/bin/env bash
# Summary: make the exact pins in ami_setup/locks/ anew from their .in files
#
# Usage: ami_setup/relock.sh [LOCK ...]
#
# LOCK is one of bpcp, py39, py310, py311, py312; default: all of them. Each is made by installing
# the .in file for real, with that very Python, and writing down what came (`pip freeze`); packages
# without a wheel are built, so install.sh's system packages must be there. Python 3.9 to 3.12 must
# be on PATH, or kept by pyenv or uv. bpcp's lock serves Python 3.10 to 3.13 and is made with 3.10: newer ones need
# no package beyond those. Takes about 4 minutes.
#
# Pins come from the package index alone; local folders of wheels and second indexes that the
# caller has set up are left out, for nobody else has them.
#
# Exit status: 0 done; 1 or 2 pip failed, and said why; 64 wrong command line; 65 a pin that others
# could not install; 69 a Python is missing.
#
# Example: ami_setup/relock.sh py39
set -euo pipefail

here=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd)
# shellcheck source=bin/lib/common.bash
source "$here/../bin/lib/common.bash"
# shellcheck source=ami_setup/python.bash
source "$here/python.bash"

locks=$here/locks

# new_env MINOR DIR -- makes an empty environment of Python MINOR, and sets pip to its pip
new_env() {
  local found python
  found=$(find_python "$1" 'venv headers compiler' "python$1") ||
    die 69 "no Python $1 that runs, with venv, headers and compiler" "put one on PATH as python$1, or: uv python install $1"
  read -r python <<<"$found"
  "$python" -m venv "$2"
  pip=("$2/bin/python" -m pip --disable-pip-version-check --no-input -q)
}

# write_lock FILE SOURCES -- writes what is installed beside pip into FILE
write_lock() {
  local pins odd
  pins=$("${pip[@]}" freeze --all | LC_ALL=C sort -f)
  if odd=$(grep -vE '^[A-Za-z0-9._-]+==[A-Za-z0-9.]+$' <<<"$pins"); then
    die 65 "not plain pins, so nobody else could install them: ${odd//$'\n'/, }" \
      "see what the pip settings of this machine add"
  fi
  printf '# Made by ami_setup/relock.sh; edit %s instead.\n%s\n' "$2" "$pins" >"$1.new"
  mv -f -- "$1.new" "$1"
  say "wrote    $1"
}

# lock_bpcp -- makes bpcp-dev.txt and, as a part of it with the same versions, bpcp.txt
lock_bpcp() {
  local sources='bpcp.in and bpcp-dev.in' kind
  for kind in bpcp-dev bpcp; do
    new_env 3.10 "$work/$kind"
    "${pip[@]}" install -U pip
    "${pip[@]}" uninstall -y setuptools
    if [[ $kind == bpcp-dev ]]; then
      "${pip[@]}" install --only-binary :all: -r "$locks/bpcp.in" -r "$locks/bpcp-dev.in"
    else
      "${pip[@]}" install --only-binary :all: -c "$locks/bpcp-dev.txt" -r "$locks/bpcp.in"
    fi
    "${pip[@]}" check >/dev/null
    write_lock "$locks/$kind.txt" "$sources"
  done
}

# lock_cellprofiler NAME -- makes cellprofiler-NAME.txt, NAME being py and the Python without its dot
lock_cellprofiler() {
  local in=$locks/cellprofiler-$1.in tools
  new_env "3.${1#py3}" "$work/$1"
  # setup.py of packages without wheels finds numpy where pip itself runs, with the old setuptools
  mapfile -t tools < <(grep -E '^(numpy|pip|setuptools|wheel)([=<]|$)' "$in")
  "${pip[@]}" install -U "${tools[@]}"
  "${pip[@]}" install --no-build-isolation -r "$in"
  "${pip[@]}" install --no-build-isolation --no-deps -r "$locks/cellprofiler.in"
  write_lock "$locks/cellprofiler-$1.txt" "cellprofiler.in and cellprofiler-$1.in"
}

main() {
  local all=(bpcp py39 py310 py311 py312) chosen=() name
  while [[ $# -gt 0 ]]; do
    case $1 in
      -h | --help)
        print_help "${BASH_SOURCE[0]}"
        exit 0
        ;;
      -*) die 64 "unknown option: $1" "ami_setup/relock.sh --help" ;;
      *)
        [[ " ${all[*]} " == *" $1 "* ]] || die 64 "no such lock: $1" "locks: ${all[*]}"
        chosen+=("$1")
        ;;
    esac
    shift
  done
  unset PIP_FIND_LINKS PIP_EXTRA_INDEX_URL PIP_CONSTRAINT PIP_TARGET PIP_PREFIX PIP_USER PYTHONPATH
  export PIP_CONFIG_FILE=/dev/null PYTHONNOUSERSITE=1
  work=$(mktemp -d)
  trap 'rm -rf -- "$work"' EXIT
  for name in "${chosen[@]:-${all[@]}}"; do
    if [[ $name == bpcp ]]; then
      lock_bpcp
    else
      lock_cellprofiler "$name"
    fi
  done
}

main "$@"
