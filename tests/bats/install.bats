#!/usr/bin/env bats
# ami_setup/install.sh and relock.sh, with fakes for whatever would touch the machine or the network
# shellcheck disable=SC2016,SC2030,SC2031 # fakes are quoted scripts; each test is a subshell of its own

setup() {
  # under make, the installer leaves it to make to say what comes next
  unset MAKELEVEL
  bats_require_minimum_version 1.5.0
  export BATS_LIB_PATH=${BATS_LIB_PATH:-/usr/lib/bats}
  load "$BATS_LIB_PATH/bats-support/load"
  load "$BATS_LIB_PATH/bats-assert/load"
  root=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
  install=$root/ami_setup/install.sh
  export HOME=$BATS_TEST_TMPDIR/home TMPDIR=$BATS_TEST_TMPDIR/tmp
  # a folder with a hostile name, to go through everything
  venv="$BATS_TEST_TMPDIR/it's a venv; é"
  fakes=$BATS_TEST_TMPDIR/fakes
  export CALLS=$BATS_TEST_TMPDIR/calls
  mkdir -p "$HOME" "$TMPDIR" "$fakes"
  : >"$CALLS"
  unset AWS_START BPCP_PYTHON BPCP_VENV JAVA_TOOL_OPTIONS MISSING PIP_FAILS PIP_FREEZES PROBE_FAILS \
    PYENV_ROOT SUDO_WORKS APT_FAILS
  export FAKE_UID=0

  local tool
  for tool in bash sh env sed grep cat cp mv rm mkdir ls tail head basename dirname readlink flock \
    sha256sum timeout mktemp sort sleep chmod touch stat find; do
    ln -s "$(type -P "$tool")" "$fakes/$tool"
  done
  fake apt-get 'printf "apt-get %s\n" "$*" >>"$CALLS"; [[ -z ${APT_FAILS:-} ]] || { echo "no such mirror"; exit 100; }'
  fake apt-cache '[[ $2 == openjdk-17-jdk-headless ]]'
  fake dpkg-query '[[ " ${MISSING:-} " == *" ${*: -1} "* ]] && exit 1; printf installed'
  fake id 'printf "%s\n" "$FAKE_UID"'
  fake sudo '[[ -n ${SUDO_WORKS:-} ]] || exit 1; [[ $1 == -n ]] && exit 0; printf "sudo " >>"$CALLS"; exec "$@"'
  fake java 'echo "openjdk version \"17.0.15\""'
  fake javac 'echo "javac 17.0.15"'
  fake parallel 'echo "perl: warning: Setting locale failed."; echo "GNU parallel 20221122"'
  fake_python python3 3.11.2
  PATH=$fakes
}

# fake NAME BODY -- puts a bash script on PATH
fake() {
  rm -f "$fakes/$1"
  printf '#!%s\n%s\n' "$BASH" "$2" >"$fakes/$1"
  chmod +x "$fakes/$1"
}

# fake_python NAME VERSION [LACKS] -- a Python that makes environments of fakes
fake_python() {
  fake "$1" "version=$2 lacks='${3:-}'"'
case "$*" in
  *sysconfig*) echo "${version%.*} $version $lacks" ;;
  "-m venv "*)
    echo "venv $version $3" >>"$CALLS"
    mkdir -p "$3/bin" "$3/lib"
    touch "$3/pyvenv.cfg"
    cp "$0" "$3/bin/python"
    printf "#!%s\n# AWS\necho aws-cli/1.46.2 Python\n" "${AWS_START:-$BASH}" >"$3/bin/aws"
    printf "#!%s\necho 4.2.8.1\n" "$BASH" >"$3/bin/cellprofiler"
    printf "#!%s\necho npm \$* >>\"\$CALLS\"\n" "$BASH" >"$3/bin/npm"
    chmod +x "$3"/bin/*
    ;;
  *" freeze "*) printf "%s\n" "${PIP_FREEZES:-numpy==1.0}" ;;
  "-m pip "*)
    echo "pip ${*:3}" >>"$CALLS"
    [[ -z ${PIP_FAILS:-} ]] || { echo "No matching distribution"; exit 1; }
    ;;
  "-c import"*) echo fine ;;
  "-m bpcp.probe "*) [[ -z ${PROBE_FAILS:-} ]] || exit 70; echo "85 modules in 900 modes: all work" ;;
  */bin/aws*) grep -q "^# AWS" "$1" && echo aws-cli/1.46.2 Python ;;
esac'
}

broken() {
  fake "$1" 'echo "pyenv: command not found" >&2; exit 127'
}

@test "help is the header, and says what the exit codes mean" {
  run "$install" --help
  assert_success
  assert_line --index 0 'install bpcp and CellProfiler on this machine'
  assert_output --partial 'Exit status:'
}

@test "an unknown option, a stray word, a missing value: 64, and nothing is touched" {
  run -64 "$install" --nonsense
  assert_output --partial 'unknown option: --nonsense'
  run -64 "$install" word
  run -64 "$install" -- word
  run -64 "$install" --venv
  run -64 "$install" --python
  run cat "$CALLS"
  assert_output ''
}

@test "a bare machine: packages and both environments, and the second run does nothing" {
  export MISSING='valgrind gcc'
  rm "$fakes/javac"
  # apt's install brings the compiler of Java
  run "$install" --venv "$venv"
  assert_success
  assert_output --partial 'install  system packages: valgrind gcc openjdk-17-jdk-headless'
  assert_output --partial 'checked  GNU parallel 20221122, aws-cli/1.46.2, openjdk version "17.0.15", CellProfiler 4.2.8.1'
  assert_output --partial 'make demo'
  assert [ -s "$venv/bpcp/.bpcp-stamp" ]
  assert [ -s "$venv/cellprofiler/.bpcp-stamp" ]
  assert [ ! -e "$venv/cellprofiler/.bpcp-building" ]
  run cat "$CALLS"
  assert_line --index 0 --regexp '^apt-get .* update$'
  assert_line --index 1 --regexp '^apt-get .* install --no-install-recommends valgrind gcc openjdk-17-jdk-headless$'
  assert_output --partial "--no-deps --no-build-isolation -r $root/ami_setup/locks/cellprofiler-py311.txt"
  assert_output --regexp 'pip .* numpy==1\.23\.5 packaging==[0-9.]+ pip==24[0-9.]+ setuptools==[0-9.]+ wheel==[0-9.]+'

  unset MISSING
  fake javac 'echo javac 17'
  : >"$CALLS"
  cp "$venv/install.log" "$BATS_TEST_TMPDIR/log"
  run "$install" --venv "$venv"
  assert_success
  assert_output --partial 'have     system packages'
  assert_output --partial "have     bpcp's environment (Python 3.11.2)"
  assert_output --partial "have     CellProfiler's environment (Python 3.11.2)"
  assert_output --partial 'checked  '
  run cat "$CALLS"
  assert_output ''
  run cat "$venv/install.log"
  assert_output "$(cat "$BATS_TEST_TMPDIR/log")"
}

@test "packages are missing, and neither root nor sudo: 77, the list, the administrator's command" {
  export MISSING='rsync valgrind' FAKE_UID=1000
  run -77 "$install" --venv "$venv" </dev/null
  assert_output --partial 'missing, and this is neither root nor sudo: rsync valgrind'
  assert_output --partial 'apt-get update && apt-get install --no-install-recommends rsync valgrind'
  rm "$fakes/sudo"
  run -77 "$install" --venv "$venv" </dev/null
  run cat "$CALLS"
  assert_output ''
}

@test "a user without root goes on where nothing is missing" {
  export FAKE_UID=1000
  run "$install" --venv "$venv" </dev/null
  assert_success
  run cat "$CALLS"
  refute_output --partial apt-get
}

@test "a user with sudo installs packages through it" {
  export MISSING=rsync FAKE_UID=1000 SUDO_WORKS=1
  run "$install" --venv "$venv" </dev/null
  assert_success
  run cat "$CALLS"
  assert_output --regexp 'sudo apt-get .* install --no-install-recommends rsync'
}

@test "apt-get fails: 69, with its last lines" {
  export MISSING=rsync APT_FAILS=1
  run -69 "$install" --venv "$venv"
  assert_output --partial 'no such mirror'
  assert_output --partial "the whole log: $venv/install.log"
}

@test "no apt-get: missing tools are named, 69; with all of them it goes on" {
  rm "$fakes/apt-get"
  run -69 "$install" --venv "$venv"
  assert_output --partial 'these tools are missing: ps rsync setpriv gcc pkg-config mysql_config'
  local tool
  for tool in ps rsync setpriv gcc pkg-config mariadb_config; do
    fake "$tool" true
  done
  run "$install" --venv "$venv"
  assert_success
}

@test "--dev asks for the tests' packages and pins; then a run without it disturbs nothing" {
  export MISSING='shfmt bats-file'
  run "$install" --dev --venv "$venv"
  assert_success
  assert_output --partial 'install  system packages: bats-file shfmt'
  run grep -F -- 'locks/bpcp-dev.txt' "$CALLS"
  assert_success
  run grep -F -- "npm ci --prefix $venv/servers" "$CALLS"
  assert_success
  assert_equal "$(<"$venv/servers/package-lock.json")" "$(<"$root/tests/servers/package-lock.json")"
  : >"$CALLS"
  unset MISSING
  run "$install" --dev --venv "$venv"
  assert_success
  assert_output --partial "have     the tests' S3 server"
  run "$install" --venv "$venv"
  assert_success
  run cat "$CALLS"
  assert_output ''
}

@test "--no-cellprofiler needs neither Java nor a compiler, and makes one environment" {
  export MISSING='gcc default-libmysqlclient-dev'
  rm "$fakes/java" "$fakes/javac"
  run "$install" --no-cellprofiler --venv "$venv"
  assert_success
  refute_output --partial 'system packages:'
  assert [ ! -e "$venv/cellprofiler" ]
}

@test "an environment that was cut off while being made is made anew" {
  run "$install" --venv "$venv"
  assert_success
  rm "$venv/cellprofiler/.bpcp-stamp"
  touch "$venv/cellprofiler/left-over"
  : >"$CALLS"
  run "$install" --venv "$venv"
  assert_success
  assert [ -s "$venv/cellprofiler/.bpcp-stamp" ]
  assert [ ! -e "$venv/cellprofiler/left-over" ]
  run grep -c '^venv' "$CALLS"
  assert_output 1
}

@test "an environment made of other pins, or by a Python that is gone, is made anew" {
  run "$install" --venv "$venv"
  assert_success
  printf 'python 3.11.2 lock 0123\n' >"$venv/bpcp/.bpcp-stamp"
  broken ../gone
  cp "$BATS_TEST_TMPDIR/gone" "$venv/cellprofiler/bin/python"
  : >"$CALLS"
  run "$install" --venv "$venv"
  assert_success
  run grep -c '^venv' "$CALLS"
  assert_output 2
}

@test "pip fails: 69, its last lines, no stamp; the next run makes it anew" {
  PIP_FAILS=1 run -69 "$install" --venv "$venv"
  assert_output --partial 'No matching distribution'
  assert [ ! -e "$venv/bpcp/.bpcp-stamp" ]
  run "$install" --venv "$venv"
  assert_success
}

@test "a folder that is not an environment is never removed" {
  mkdir -p "$venv/bpcp"
  touch "$venv/bpcp/thesis.doc"
  run -73 "$install" --venv "$venv"
  assert_output --partial 'is in the way'
  assert [ -e "$venv/bpcp/thesis.doc" ]
}

@test "a place that cannot be written to: 73" {
  touch "$BATS_TEST_TMPDIR/file"
  run -73 "$install" --venv "$BATS_TEST_TMPDIR/file/venv"
  assert_output --partial 'cannot write to'
}

@test "a folder whose name Python environments do not survive: 73" {
  local name
  for name in 'a$(b)' 'a:b' 'a"b' 'a`b' 'a\b' $'a\nb'; do
    run -73 "$install" --venv "$BATS_TEST_TMPDIR/$name"
    assert_output --partial 'do not work below a folder'
  done
  run cat "$CALLS"
  assert_output ''
}

@test "aws starts where the folder's name has a blank" {
  AWS_START="$venv/bpcp/bin/python" run "$install" --venv "$venv"
  assert_success
  run cat "$venv/bpcp/bin/aws"
  assert_line --index 0 '#!/bin/sh'
  assert_line --index 3 '# AWS'
  run "$venv/bpcp/bin/aws" --version
  assert_output 'aws-cli/1.46.2 Python'
}

@test "Pythons that exist but do not run, or lack venv or headers, are passed by" {
  broken python3.9
  fake_python python3.10 3.10.4 headers
  fake_python python3.11 3.11.9
  run "$install" --venv "$venv"
  assert_success
  assert_output --partial "skip     $fakes/python3.9: does not run"
  assert_output --partial "skip     $fakes/python3.10: Python 3.10.4 without headers (python3.10-venv, python3.10-dev)"
  assert_output --partial "CellProfiler's environment: Python 3.11.9 ($fakes/python3.11)"
  refute_output --partial 'Not a reference'
}

@test "a broken shim before a working Python of the same name on PATH does not hide it" {
  mkdir "$BATS_TEST_TMPDIR/shims"
  broken ../shims/python3
  PATH=$BATS_TEST_TMPDIR/shims:$PATH run "$install" --venv "$venv"
  assert_success
  assert_output --partial "CellProfiler's environment: Python 3.11.2 ($fakes/python3)"
}

@test "a Python of pyenv is found beside a shim that does not run: 3.9 first, its newest patch first" {
  local pyenv="$BATS_TEST_TMPDIR/py env" version
  mkdir -p "$pyenv/shims"
  for version in 3.9.2 3.9.18 3.10.13; do
    mkdir -p "$pyenv/versions/$version/bin"
    fake_python "../py env/versions/$version/bin/python${version%.*}" "$version"
  done
  broken "../py env/shims/python3.9"
  PATH=$pyenv/shims:$PATH run "$install" --venv "$venv"
  assert_success
  assert_output --partial "skip     $pyenv/shims/python3.9: does not run"
  assert_output --partial "CellProfiler's environment: Python 3.9.18 ($pyenv/versions/3.9.18/bin/python3.9)"
  # without shims on PATH: where PYENV_ROOT or pyenv itself says
  PYENV_ROOT=$pyenv run "$install" --venv "$venv-2"
  assert_output --partial "Python 3.9.18 ($pyenv/versions/3.9.18/bin/python3.9)"
  rm -r "$pyenv/versions/3.9.2" "$pyenv/versions/3.9.18"
  fake pyenv "[[ \$1 == root ]] && printf '%s\n' '$pyenv'"
  run "$install" --venv "$venv-3"
  assert_success
  assert_output --partial "Python 3.10.13 ($pyenv/versions/3.10.13/bin/python3.10)"
}

@test "a Python that uv keeps is found, and none is fetched" {
  mkdir "$BATS_TEST_TMPDIR/uv"
  fake_python ../uv/python3.9 3.9.23
  fake uv 'printf "uv %s %s %s\n" "$*" "$UV_PYTHON_DOWNLOADS" "$UV_PYTHON_PREFERENCE" >>"$CALLS"
    [[ $3 == 3.9 ]] && printf "%s\n" "'"$BATS_TEST_TMPDIR"'/uv/python3.9"'
  run "$install" --venv "$venv"
  assert_success
  assert_output --partial "CellProfiler's environment: Python 3.9.23 ($BATS_TEST_TMPDIR/uv/python3.9)"
  run grep '^uv' "$CALLS"
  assert_output 'uv python find 3.9 never only-managed'
}

@test "a Python whose compiler is missing is passed by" {
  fake_python python3.9 3.9.23 compiler
  run "$install" --venv "$venv"
  assert_success
  assert_output --partial "skip     $fakes/python3.9: Python 3.9.23 without compiler"
  assert_output --partial "CellProfiler's environment: Python 3.11.2 ($fakes/python3)"
}

@test "the layer for scikit-image comes into the environment, and a changed one replaces it alone" {
  local site="$venv/cellprofiler/lib/python3.11/site-packages"
  run "$install" --venv "$venv"
  assert_success
  assert_equal "$(<"$site/bpcp_skimage.py")" "$(<"$root/ami_setup/bpcp_skimage.py")"
  assert_equal "$(<"$site/bpcp_skimage.pth")" 'import bpcp_skimage'
  printf 'older\n' >"$site/bpcp_skimage.py"
  : >"$CALLS"
  run "$install" --venv "$venv"
  assert_success
  assert_output --partial 'install  the compatibility layer for scikit-image'
  assert_equal "$(<"$site/bpcp_skimage.py")" "$(<"$root/ami_setup/bpcp_skimage.py")"
  # cut off before its last step
  rm "$site/bpcp_skimage.pth"
  run "$install" --venv "$venv"
  assert [ -s "$site/bpcp_skimage.pth" ]
  run cat "$CALLS"
  assert_output ''
  run "$install" --venv "$venv"
  refute_output --partial 'compatibility layer'
}

@test "Python 3.12 is the last resort, and says what it means for the numbers, every time" {
  fake_python python3 3.12.3
  for _ in 1 2; do
    run "$install" --venv "$venv"
    assert_success
    assert_output --partial 'some of its values differ'
    assert_output --partial 'Not a reference'
  done
  run cat "$CALLS"
  assert_output --partial 'cellprofiler-py312.txt'
}

@test "no Python that CellProfiler runs on: 69, with what to install" {
  fake_python python3 3.13.0
  run -69 "$install" --venv "$venv"
  assert_output --partial 'no Python for CellProfiler'
  assert_output --partial 'install python3.11, python3.11-venv and python3.11-dev'
}

@test "no Python for bpcp: 69" {
  fake_python python3 3.9.2
  run -69 "$install" --venv "$venv"
  assert_output --partial 'no Python for bpcp'
}

@test "the Python that the user names is taken, kept, and never replaced by another" {
  fake_python mine 3.9.18
  run "$install" --venv "$venv" --python "$fakes/mine"
  assert_success
  assert_output --partial "Python 3.9.18 ($fakes/mine)"
  : >"$CALLS"
  run "$install" --venv "$venv"
  assert_success
  assert_output --partial "have     CellProfiler's environment (Python 3.9.18)"
  run cat "$CALLS"
  assert_output ''
  BPCP_PYTHON=python3 run "$install" --venv "$venv"
  assert_success
  assert_output --partial "install  CellProfiler's environment: Python 3.11.2"
  broken mine
  run -69 "$install" --venv "$venv" --python mine
  assert_output --partial "skip     $fakes/mine: does not run"
  assert_output --partial 'cannot use mine'
}

@test "moreutils' parallel first on PATH: 69, and it is said" {
  fake parallel 'echo "parallel: invalid option -- -"; exit 1'
  run -69 "$install" --venv "$venv"
  assert_output --partial 'is not GNU parallel'
}

@test "a CellProfiler that does not start is not called installed" {
  run "$install" --venv "$venv"
  assert_success
  printf '#!%s\necho "ImportError: libjvm"; exit 1\n' "$BASH" >"$venv/cellprofiler/bin/cellprofiler"
  run -69 "$install" --venv "$venv"
  assert_output --partial 'ImportError: libjvm'
  refute_output --partial 'make demo'
}

@test "a second installer waits for the first" {
  mkdir -p "$venv"
  (
    exec 8>>"$venv/.lock"
    flock 8
    touch "$BATS_TEST_TMPDIR/held"
    sleep 1
    echo released >>"$CALLS"
  ) 3>&- &
  while [[ ! -e $BATS_TEST_TMPDIR/held ]]; do sleep 0.05; done
  run "$install" --venv "$venv"
  wait
  assert_success
  assert_output --partial 'wait     another install.sh is at work'
  run head -n 1 "$CALLS"
  assert_output released
}

@test "every pin is plain: a name, ==, a version, nothing of one machine" {
  local lock
  for lock in "$root"/ami_setup/locks/*.txt; do
    run grep -vE '^(# Made by .*|[A-Za-z0-9._-]+==[A-Za-z0-9.]+)$' "$lock"
    assert_output ''
  done
}

@test "bpcp-dev.txt holds every pin of bpcp.txt" {
  while IFS= read -r pin; do
    run grep -Fxc -- "$pin" "$root/ami_setup/locks/bpcp-dev.txt"
    assert_output 1
  done < <(grep -v '^#' "$root/ami_setup/locks/bpcp.txt")
}

@test "relock: help, unknown option, unknown lock, a Python that is missing" {
  local relock=$root/ami_setup/relock.sh
  run "$relock" --help
  assert_success
  run -64 "$relock" --nonsense
  run -64 "$relock" py38
  assert_output --partial 'locks: bpcp py39 py310 py311 py312'
  run -69 "$relock" py39
  assert_output --partial 'no Python 3.9 that runs'
}

@test "relock: writes plain pins, and refuses those of one machine" {
  mkdir -p "$BATS_TEST_TMPDIR/copy"
  cp -R "$root/ami_setup" "$root/bin" "$BATS_TEST_TMPDIR/copy/"
  local relock=$BATS_TEST_TMPDIR/copy/ami_setup/relock.sh lock=$BATS_TEST_TMPDIR/copy/ami_setup/locks/cellprofiler-py39.txt
  fake_python python3.9 3.9.18
  PIP_FREEZES=$'wheel==0.1\nnumpy==1.23.5' run "$relock" py39
  assert_success
  run cat "$lock"
  assert_line --index 1 numpy==1.23.5
  assert_line --index 2 wheel==0.1
  PIP_FREEZES='torch==2.0+cpu' run -65 "$relock" py39
  assert_output --partial 'torch==2.0+cpu'
  PIP_FREEZES='torch @ file:///srv/torch.whl' run -65 "$relock" py39
  run cat "$lock"
  assert_line --index 1 numpy==1.23.5
  run find "$TMPDIR" -mindepth 1
  assert_output ''
}

@test "CellProfiler's modules are tried at the end; an installation stands where that fails" {
  run "$install" --venv "$venv"
  assert_success
  assert_output --partial 'tried    85 modules in 900 modes: all work'
  export PROBE_FAILS=yes
  run "$install" --venv "$venv"
  assert_success
  assert_output --partial "note     CellProfiler's modules could not be tried"
  run "$install" --venv "$venv" --no-cellprofiler
  assert_success
  refute_output --partial modules
}
