#!/usr/bin/env bash
# Summary: install bpcp and CellProfiler on this machine
#
# Usage: ami_setup/install.sh [--dev] [--no-cellprofiler] [--python PYTHON] [--venv DIR]
#
# One installer for a laptop, an image build, cloud-init and CI. It installs what is missing and
# nothing else, so it can be run again at any time: the system packages (apt-get; only this needs
# root or sudo), then two Python environments from the exact pins in ami_setup/locks/: bpcp's own,
# and CellProfiler's. About 3 minutes on a bare machine, 2 seconds when all is there.
#
#   --dev              also what bpcp's tests and checks need; on Ubuntu 22.04 the bats-*
#                      packages do not exist
#   --no-cellprofiler  leave out CellProfiler and Java: you have one, and name it in BPCP_CELLPROFILER
#   --python PYTHON    the Python for CellProfiler's environment, 3.9 to 3.12 (or: BPCP_PYTHON);
#                      default: the first that runs of python3.9, python3.10, python3.11, python3,
#                      and python3.12 as a last resort: on PATH, or kept by pyenv or uv
#   --venv DIR         folder for the environments (or: BPCP_VENV; default: .venv beside bin/)
#   -h, --help         this text
#
# Python 3.9 is CellProfiler's own: it alone has the scikit-image that CellProfiler declares, and
# `uv python install 3.9` fetches it. On 3.10 and 3.11 a later scikit-image is patched to agree;
# on 3.12 some values differ. An environment that is there keeps its Python; --python changes it.
# More: docs/cellprofiler.md.
#
# Exit status: 0 all there, and it runs; 64 wrong command line; 69 something cannot be had, or does
# not run; 73 cannot write to DIR; 77 packages are missing and this is neither root nor sudo.
#
# Example: ami_setup/install.sh && make demo
set -euo pipefail

here=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd)
# shellcheck source=bin/lib/common.bash
source "$here/../bin/lib/common.bash"
# shellcheck source=ami_setup/python.bash
source "$here/python.bash"

locks=$here/locks
layer=$here/bpcp_skimage.py
stamp_name=.bpcp-stamp
building_name=.bpcp-building

dev=false
with_cellprofiler=true
named_python=${BPCP_PYTHON:-}
venv_given=false
log_begun=false

# parse_options ARG... -- reads the command line into the variables above
parse_options() {
  while [[ $# -gt 0 ]]; do
    case $1 in
      --dev) dev=true ;;
      --no-cellprofiler) with_cellprofiler=false ;;
      --python)
        need_value "$1" "${@:2:1}"
        named_python=$2
        shift
        ;;
      --venv)
        need_value "$1" "${@:2:1}"
        BPCP_VENV=$2
        venv_given=true
        shift
        ;;
      -h | --help)
        print_help "${BASH_SOURCE[0]}"
        exit 0
        ;;
      --)
        shift
        break
        ;;
      *) die 64 "unknown option: $1" "ami_setup/install.sh --help" ;;
    esac
    shift
  done
  if [[ $# -gt 0 ]]; then
    die 64 "unexpected argument: $1" "ami_setup/install.sh --help"
  fi
}

# open_folder -- makes the folder of the environments and holds its lock until the end
open_folder() {
  local error
  if ! error=$(mkdir -p -- "$BPCP_VENV" 2>&1 && : >>"$BPCP_VENV/.lock"); then
    die 73 "cannot write to $BPCP_VENV${error:+: $error}" "--venv DIR names another folder"
  fi
  BPCP_VENV=$(cd -- "$BPCP_VENV" && pwd)
  # the start lines that pip writes, and venv itself, do not survive these
  if [[ $BPCP_VENV == *['"$`\:'$'\n']* ]]; then
    die 73 "Python environments do not work below a folder with one of \" \$ \` \\ : in its name: $BPCP_VENV" \
      "--venv DIR names another folder"
  fi
  export BPCP_VENV
  log=$BPCP_VENV/install.log
  exec {lock_fd}>>"$BPCP_VENV/.lock"
  if ! flock --nonblock "$lock_fd"; then
    say "wait     another install.sh is at work in $BPCP_VENV"
    flock "$lock_fd"
  fi
}

# logged COMMAND... -- runs COMMAND into the log; on failure shows the log's end and exits with 69
logged() {
  # a run that finds all there leaves the log of the last one that did something
  if ! $log_begun; then
    log_begun=true
    : >"$log"
  fi
  printf '\n+ %s\n' "$*" >>"$log"
  if ! "$@" >>"$log" 2>&1 </dev/null; then
    tail -n 20 -- "$log" >&2
    die 69 "failed: $*" "the whole log: $log"
  fi
}

# --- system packages --------------------------------------------------------------------------

# has_package NAME -- succeeds where the Debian package NAME is installed
has_package() {
  [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
}

# has_jdk -- succeeds where any Java development kit is there, packaged or not
has_jdk() {
  javac -version >/dev/null 2>&1 && java -version >/dev/null 2>&1
}

# wanted_packages -- prints the Debian packages that the chosen parts need, one a line; the JDK apart
wanted_packages() {
  # gcc and the headers build javabridge and mysqlclient, which have no wheels
  printf '%s\n' ca-certificates parallel procps python3-venv rsync sqlite3 util-linux valgrind
  if $with_cellprofiler; then
    printf '%s\n' default-libmysqlclient-dev gcc libc6-dev pkg-config python3-dev
  fi
  if $dev; then
    printf '%s\n' bats bats-assert bats-file bats-support iproute2 shellcheck shfmt
  fi
}

# jdk_package -- prints the first Java development kit that this system's archive offers
jdk_package() {
  local name
  for name in openjdk-17-jdk-headless openjdk-21-jdk-headless default-jdk-headless; do
    if apt-cache show "$name" >/dev/null 2>&1; then
      printf '%s\n' "$name"
      return
    fi
  done
  # nothing is known before the first `apt-get update`
  printf 'default-jdk-headless\n'
}

# offered_extras -- prints the packages that some tests need, that this system's archive offers and
# that are missing; these tests say so where they are
offered_extras() {
  local name
  $dev || return 0
  for name in cloud-init packer mariadb-server-core mariadb-server-core-10.6; do
    # of a name that others replace it shows nothing, and succeeds
    if ! has_package "$name" && [[ -n $(apt-cache show "$name" 2>/dev/null) ]]; then
      printf '%s\n' "$name"
    fi
  done
}

# install_packages -- installs the Debian packages that are missing
install_packages() {
  local wanted missing=() extras name jdk=false
  mapfile -t wanted < <(wanted_packages)
  for name in "${wanted[@]}"; do
    has_package "$name" || missing+=("$name")
  done
  if $with_cellprofiler && ! has_jdk; then
    jdk=true
  fi
  mapfile -t extras < <(offered_extras)
  if [[ ${#missing[@]} -eq 0 && ${#extras[@]} -eq 0 ]] && ! $jdk; then
    say "have     system packages"
    return
  fi

  local as_root=()
  if [[ $(id -u) -ne 0 ]]; then
    if ! command -v sudo >/dev/null || { ! sudo -n true 2>/dev/null && [[ ! -t 0 ]]; }; then
      if [[ ${#missing[@]} -eq 0 ]] && ! $jdk; then
        say "note     some tests will be skipped without: ${extras[*]}"
        return
      fi
      missing+=("${extras[@]}")
      $jdk && missing+=("$(jdk_package)")
      die 77 "system packages are missing, and this is neither root nor sudo: ${missing[*]}" \
        "ask the administrator for: apt-get update && apt-get install --no-install-recommends ${missing[*]}"
    fi
    as_root=(sudo)
  fi
  # a machine that just booted may be updating itself: wait for its lock
  local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=a
    apt-get -q -y -o DPkg::Lock::Timeout=300)
  say "update   the list of system packages"
  logged "${apt[@]}" update
  $jdk && missing+=("$(jdk_package)")
  mapfile -t extras < <(offered_extras)
  missing+=("${extras[@]}")
  if [[ " ${extras[*]} " == *' cloud-init '* ]]; then
    # its schema is wanted, not its services: they would take this machine for a new one at the next boot
    "${as_root[@]}" install -D -m 644 /dev/null /etc/cloud/cloud-init.disabled
  fi
  say "install  system packages: ${missing[*]}"
  logged "${apt[@]}" install --no-install-recommends "${missing[@]}"
}

# check_tools -- where there is no apt-get: names what is missing, for the user to install
check_tools() {
  local tools=(flock parallel ps rsync setpriv) missing=() tool
  if $with_cellprofiler; then
    tools+=(gcc java javac pkg-config mysql_config)
  fi
  if $dev; then
    tools+=(bats shellcheck shfmt)
  fi
  for tool in "${tools[@]}"; do
    if [[ $tool == mysql_config ]] && command -v mariadb_config >/dev/null; then
      continue
    fi
    command -v "$tool" >/dev/null || missing+=("$tool")
  done
  if [[ ${#missing[@]} -gt 0 ]]; then
    die 69 "no apt-get here, and these tools are missing: ${missing[*]}" \
      "install them with this system's package manager (mysql_config: the MariaDB or MySQL client headers), then run this again"
  fi
  say "have     system tools: ${tools[*]}"
}

# --- Python environments ----------------------------------------------------------------------

# stamp_for LOCK VERSION -- prints the stamp of an environment made of LOCK by Python VERSION
stamp_for() {
  local sum
  sum=$(sha256sum <"$1")
  printf 'python %s lock %s\n' "$2" "${sum%% *}"
}

# up_to_date ENV LOCK... -- succeeds where ENV is whole and made of one of the LOCKs by the Python
# that it still runs on; sets env_version
up_to_date() {
  local env=$1 lock found
  shift
  [[ -f $env/$stamp_name ]] || return 1
  found=$(probe_python "$env/bin/python") || return 1
  read -r _ env_version _ <<<"$found"
  for lock in "$@"; do
    if [[ -f $lock && $(<"$env/$stamp_name") == "$(stamp_for "$lock" "$env_version")" ]]; then
      return
    fi
  done
  return 1
}

# mend_start_line FILE -- lets a Python script start where its folder's name has a blank or is long;
# pip does so for all but scripts of the oldest kind, of which aws is one
mend_start_line() {
  local first
  [[ -f $1 ]] || return 0
  IFS= read -r first <"$1"
  if [[ $first == '#!'*' '* || ${#first} -gt 127 ]]; then
    {
      # for sh an exec, for Python a string
      printf '%s\n' '#!/bin/sh' \
        "'''exec' \"\$(dirname -- \"\$(readlink -f -- \"\$0\")\")/python\" \"\$0\" \"\$@\"" "' '''"
      tail -n +2 -- "$1"
    } >"$1.new"
    chmod +x -- "$1.new"
    mv -f -- "$1.new" "$1"
  fi
}

# make_env ENV LOCK PYTHON VERSION PIP_ARG... -- makes ENV anew; the stamp, written last, makes it count
make_env() {
  local env=$1 lock=$2 python=$3 version=$4
  shift 4
  if [[ -d $env && -n $(ls -A -- "$env") && ! -e $env/pyvenv.cfg && ! -e $env/$building_name ]]; then
    die 73 "$env is in the way: not an environment that this installer made" "--venv DIR names another folder"
  fi
  rm -rf -- "$env"
  mkdir -p -- "$env"
  : >"$env/$building_name"
  logged "$python" -m venv "$env"
  local pip=("$env/bin/python" -m pip --disable-pip-version-check --no-input
    install --no-deps --no-build-isolation "$@")
  # first the tools that build the rest, at their pins too
  local tools
  mapfile -t tools < <(grep -E '^(numpy|packaging|pip|setuptools|wheel)==' -- "$lock")
  logged "${pip[@]}" "${tools[@]}"
  logged "${pip[@]}" -r "$lock"
  mend_start_line "$env/bin/aws"
  logged "$env/bin/python" -m compileall -q "$env/lib" -x '/(tests?|lib2to3|bad_coding.*)/'
  stamp_for "$lock" "$version" >"$env/$stamp_name.new"
  mv -f -- "$env/$stamp_name.new" "$env/$stamp_name"
  rm -f -- "$env/$building_name"
}

# install_bpcp -- makes bpcp's own environment
install_bpcp() {
  local env=$BPCP_VENV/bpcp lock=$locks/bpcp.txt accept='3.10 3.11 3.12 3.13' found env_version
  if $dev; then
    lock=$locks/bpcp-dev.txt
  fi
  # what the tests need does not disturb those who do not ask for it
  if up_to_date "$env" "$lock" "$locks/bpcp-dev.txt"; then
    say "have     bpcp's environment (Python $env_version)"
    return
  fi
  if ! found=$(find_python "$accept" venv python3 python3.11 python3.12 python3.13 python3.10); then
    die 69 "no Python for bpcp: it needs one of $accept, with venv" "install one, and put it on PATH"
  fi
  local python version
  { read -r python && read -r _ && read -r version; } <<<"$found"
  say "install  bpcp's environment: Python $version ($python), about 20 seconds …"
  make_env "$env" "$lock" "$python" "$version" --only-binary :all:
}

# install_layer ENV VERSION -- puts into ENV, on Python VERSION, what lets its scikit-image work as
# the one that CellProfiler declares; replaces an older one
install_layer() {
  local site=$1/lib/python${2%.*}/site-packages name
  name=$(basename -- "$layer" .py)
  if [[ -f $site/$name.pth && -f $site/$name.py && $(<"$site/$name.py") == "$(<"$layer")" ]]; then
    return
  fi
  say "install  the compatibility layer for scikit-image"
  mkdir -p -- "$site"
  cp -- "$layer" "$site/$name.py.new"
  mv -f -- "$site/$name.py.new" "$site/$name.py"
  logged "$1/bin/python" -m compileall -q "$site/$name.py"
  printf 'import %s\n' "$name" >"$site/$name.pth"
}

# warn_of_312 -- says what Python 3.12 means for the numbers
warn_of_312() {
  say "note     CellProfiler runs on Python 3.12, but some of its values differ (ties in Location_MaxIntensity, for one)."
  say "         Not a reference: for results that must agree with other labs, use Python 3.9 to 3.11 (--python)."
}

# install_cellprofiler -- makes CellProfiler's environment
install_cellprofiler() {
  local env=$BPCP_VENV/cellprofiler lock accept='3.9 3.10 3.11' needs='venv headers compiler'
  local found='' env_version
  local python minor version
  if [[ -n $named_python ]]; then
    accept+=' 3.12'
    found=$(find_python "$accept" "$needs" "$named_python") ||
      die 69 "cannot use $named_python for CellProfiler" \
        "name one of Python $accept that runs, with venv, headers and compiler; or leave --python and BPCP_PYTHON away"
  elif up_to_date "$env" "$locks"/cellprofiler-py*.txt; then
    # made with a Python that was named once: it stays
    say "have     CellProfiler's environment (Python $env_version)"
    install_layer "$env" "$env_version"
    if [[ $env_version == 3.12.* ]]; then
      warn_of_312
    fi
    return 0
  else
    found=$(find_python "$accept" "$needs" python3.9 python3.10 python3.11 python3) ||
      found=$(find_python 3.12 "$needs" python3.12 python3) ||
      die 69 "no Python for CellProfiler: it needs one of $accept (or, as a last resort, 3.12), with venv, headers and compiler" \
        "uv python install 3.9, or install python3.11, python3.11-venv and python3.11-dev, or name a Python with --python, or use --no-cellprofiler and BPCP_CELLPROFILER"
  fi
  { read -r python && read -r minor && read -r version; } <<<"$found"
  lock=$locks/cellprofiler-py${minor/./}.txt
  if up_to_date "$env" "$lock" && [[ $env_version == "$version" ]]; then
    say "have     CellProfiler's environment (Python $env_version)"
  else
    say "install  CellProfiler's environment: Python $version ($python), about a minute …"
    make_env "$env" "$lock" "$python" "$version"
  fi
  install_layer "$env" "$version"
  if [[ $minor == 3.12 ]]; then
    warn_of_312
  fi
}

# install_servers -- makes the S3 server that the tests run against, on loopback
install_servers() {
  local home=$BPCP_VENV/servers source=$here/../tests/servers sum
  sum=$(sha256sum <"$source/package-lock.json")
  if [[ -f $home/$stamp_name && $(<"$home/$stamp_name") == "$sum" ]]; then
    say "have     the tests' S3 server"
    return
  fi
  say "install  the tests' S3 server, about 10 seconds …"
  rm -rf -- "$home"
  mkdir -- "$home"
  cp -- "$source/package.json" "$source/package-lock.json" "$home"
  # npm starts the first node on PATH, and so do scripts of packages
  logged env PATH="$BPCP_VENV/bpcp/bin:$PATH" npm ci --prefix "$home" --no-audit --no-fund --ignore-scripts
  printf '%s\n' "$sum" >"$home/$stamp_name"
}

# --- the proof --------------------------------------------------------------------------------

# answer_of PATTERN COMMAND... -- prints the first line of COMMAND's answer that PATTERN matches, or
# exits with 69; any warnings of locale and the like may stand before it
answer_of() {
  local pattern=$1 answer
  shift
  if ! answer=$("$@" 2>&1 </dev/null) || ! grep -E -m 1 -e "$pattern" <<<"$answer"; then
    tail -n 20 <<<"$answer" >&2
    die 69 "does not run as it should: $*" \
      "rm -r $(printf '%q' "$BPCP_VENV"), and run this again; if that does not help, report the lines above"
  fi
}

# verify -- runs once what was installed
verify() {
  local answers=() answer
  if ! answer=$(answer_of '^GNU parallel [0-9]' parallel --version 2>/dev/null); then
    die 69 "the first parallel on PATH ($(command -v parallel)) is not GNU parallel, or does not run" \
      "install the package parallel, or take the other one off PATH"
  fi
  answers+=("$answer")
  answer_of '^fine$' "$BPCP_VENV/bpcp/bin/python" -c \
    'import pandas, psutil, pyarrow, pymysql, tifffile, tomli; print("fine")' >/dev/null
  answer=$(answer_of '^aws-cli/' "$BPCP_VENV/bpcp/bin/aws" --version)
  answers+=("${answer%% *}")
  if $with_cellprofiler; then
    answer=$(answer_of ' version "' java -version)
    answers+=("$answer")
    answer_of '^fine$' "$BPCP_VENV/cellprofiler/bin/python" -c \
      'import MySQLdb, bpcp_skimage; print("fine")' >/dev/null
    answer=$(answer_of '^[0-9]+[.]' "$BPCP_VENV/cellprofiler/bin/cellprofiler" --version)
    answers+=("CellProfiler $answer")
  fi
  local list
  printf -v list '%s, ' "${answers[@]}"
  say "checked  ${list%, }"
}

# try_modules -- runs each of CellProfiler's modules once, where that was not done for what is
# installed now; `bpcp doctor` and `bpcp check` read the answer beside the environment
try_modules() {
  local answer
  say "try      CellProfiler's modules, about a minute where this is new …"
  if answer=$(cd -- "$here/.." && "$BPCP_VENV/bpcp/bin/python" -m bpcp.probe \
    "$BPCP_VENV/cellprofiler/bin/cellprofiler" 2>>"$log"); then
    say "tried    $answer"
  else
    say "note     CellProfiler's modules could not be tried; the log: $log"
  fi
}

main() {
  parse_options "$@"
  # of the caller's Python and pip settings, those that would put packages elsewhere
  unset PYTHONHOME PYTHONPATH PIP_TARGET PIP_PREFIX PIP_ROOT PIP_USER PIP_CONSTRAINT
  export PYTHONNOUSERSITE=1
  open_folder
  if command -v apt-get >/dev/null; then
    install_packages
  else
    check_tools
  fi
  install_bpcp
  if $with_cellprofiler; then
    install_cellprofiler
  fi
  if $dev; then
    install_servers
  fi
  verify
  if $with_cellprofiler; then
    try_modules
  fi
  if [[ -n ${MAKELEVEL:-} ]]; then
    return # make goes on by itself
  fi
  if $venv_given; then
    say "next     export BPCP_VENV=$(printf '%q' "$BPCP_VENV"), then: make demo"
  else
    say "next     make demo"
  fi
}

main "$@"
