#!/usr/bin/env bats
# The dispatcher, and what all commands have in common: help that says what the parser takes.
# shellcheck disable=SC2016,SC2154 # a fake is a quoted script; run sets stderr

setup() {
  bats_require_minimum_version 1.5.0
  export BATS_LIB_PATH=${BATS_LIB_PATH:-/usr/lib/bats}
  load "$BATS_LIB_PATH/bats-support/load"
  load "$BATS_LIB_PATH/bats-assert/load"
  root=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
  bpcp=$root/bin/bpcp
  entry=$root/run_analysis_pipeline.sh
  export HOME=$BATS_TEST_TMPDIR/home TMPDIR=$BATS_TEST_TMPDIR/tmp
  mkdir -p "$HOME" "$TMPDIR"
  unset BPCP_CELLPROFILER PATHNAME_BASENAME
  cd "$TMPDIR" || return
}

# files -- prints the entry script and the file of each command whose options are bpcp's own
files() {
  local file
  printf '%s\n' "$entry"
  for file in "$root"/bin/bpcp-*; do
    # all of its options are CellProfiler's
    [[ $file == */bpcp-cellprofiler ]] || printf '%s\n' "$file"
  done
}

# header FILE -- prints a command's header comment
header() {
  sed -n '2,${/^#/!q; p}' "$1"
}

# told FILE -- prints the long options that a command's header lists or shows
told() {
  header "$1" | grep -v '^# Example' | grep -oE -- '(^|[ [(,])--[a-z][a-z_-]*' | grep -oE -- '--.*' |
    grep -vx -- --help | sort -u
}

# taken FILE -- prints the long options that a command's parser takes
taken() {
  local module from
  module=$(sed -n 's/^ *python_command .* bpcp\.\([a-z_]*\) .*/\1/p' "$1")
  if [[ -n $module ]]; then
    # a package's parser is in its __main__
    [[ ! -d $root/bpcp/$module ]] || module+=/__main__
    from=("$root/bpcp/$module.py")
    # those that all commands share that read from S3
    ! grep -q '^    add_options(parser)' "${from[0]}" || from+=("$root/bpcp/access.py")
    grep -ohE 'add_argument\([^)]*' "${from[@]}" | grep -oE -- '"--[a-z_-]+"' | tr -d '"'
  else
    grep -oE -- '^ +(-. \| )?--[a-z][a-z_-]*\)' "$1" | grep -oE -- '--[a-z_-]+'
  fi | grep -vx -- --help | sort -u
}

# handed_on FILE -- prints the options that a command tells of and hands on to bpcp plan's parser
handed_on() {
  if [[ $1 == */bpcp-profile ]]; then
    comm -12 <(told "$1") <(taken "$root/bin/bpcp-plan")
  fi
}

@test "without a command it says what there is" {
  run --separate-stderr "$bpcp"
  assert_success
  assert_output --partial 'Usage: bpcp COMMAND'
  local file
  for file in "$root"/bin/bpcp-*; do
    assert_line --regexp "^  ${file##*/bpcp-} +$(sed -n '2s/^# Summary: //p' "$file" | cut -c1-20)"
  done
  assert_equal "$stderr" ''
}

@test "--help and help are the same" {
  run "$bpcp" --help
  assert_success
  local first=$output
  run "$bpcp" help
  assert_output "$first"
}

@test "--version is the package's" {
  run "$bpcp" --version
  assert_success
  assert_output "bpcp $(sed -n 's/^__version__ = "\(.*\)"/\1/p' "$root/bpcp/__init__.py")"
}

@test "an unknown command is 64 and lists the known ones" {
  local name
  for name in nope ../../bin/bpcp-plan lib -x; do
    run --separate-stderr "$bpcp" "$name"
    assert_failure 64
    assert_equal "$output" ''
    [[ $stderr == *"no such command: $name"* ]]
    [[ $stderr == *'commands: '*compare*merge*plan*run-chunk*status* ]]
  done
  run --separate-stderr "$bpcp" help nope
  assert_failure 64
}

@test "each command has a header that says all that it must" {
  local file part
  while IFS= read -r file; do
    assert [ -x "$file" ]
    for part in 'Summary: ' 'Usage: ' 'Exit status: ' 'Example: '; do
      header "$file" | grep -q "^# \?$part" || fail "$file: no $part"
    done
  done < <(files && printf '%s\n' "$root/bin/bpcp-cellprofiler")
}

@test "help of each command is its header" {
  local file name wanted
  while IFS= read -r file; do
    name=${file##*/bpcp-}
    wanted=$(header "$file" | sed 's/^# \{0,1\}//; 1s/^Summary: //')
    if [[ $file != "$entry" ]]; then
      run --separate-stderr "$bpcp" help "$name"
      assert_success
      assert_output "$wanted"
    fi
    run --separate-stderr "$file" --help
    assert_success
    assert_output "$wanted"
    assert_equal "$stderr" ''
  done < <(files)
}

@test "the options of each header are those of its parser" {
  local file
  while IFS= read -r file; do
    assert_equal "$file: $(told "$file" | paste -sd' ')" "$file: $({ taken "$file" && handed_on "$file"; } | sort -u | paste -sd' ')"
  done < <(files)
  # the comparison would also hold of two empty lists
  taken "$entry" | grep -qx -- --keep-chunks
  taken "$root/bin/bpcp-plan" | grep -qx -- --chunk-size
  told "$root/bin/bpcp-plan" | grep -qx -- --chunk-size
}

@test "each command refuses an option that it does not have, with 64 and a way to its help" {
  local file
  while IFS= read -r file; do
    run --separate-stderr "$file" --no-such-option
    assert_failure 64
    assert_equal "$output" ''
    [[ $stderr == *--help* ]] || fail "$file: $stderr"
    [[ $stderr != *Traceback* ]]
  done < <(files)
}

@test "a command works through links, from anywhere, and does not import what lies there" {
  mkdir bpcp
  printf 'raise SystemExit("imported from here")\n' | tee bpcp/__init__.py json.py >argparse.py
  ln -s "$bpcp" "link to bpcp"
  PYTHONPATH=$PWD run --separate-stderr "./link to bpcp" status -d x -p "pipelines/x.cppipe"
  assert_failure 66
  [[ $stderr == *'nothing is planned'* ]]
}

@test "without its Python it is 69 and says how to install it" {
  BPCP_VENV=$BATS_TEST_TMPDIR/none run --separate-stderr "$bpcp" status -d x -p x.cppipe
  assert_failure 69
  [[ $stderr == *'bpcp is not installed'*ami_setup/install.sh* ]]
}

@test "cellprofiler is the one that a run would start, with its arguments" {
  printf '#!/bin/sh\nprintf "<%%s>" "$@"\nprintf " %%s" "$OMP_NUM_THREADS"\n' >"a cellprofiler"
  chmod +x "a cellprofiler"
  BPCP_CELLPROFILER="$PWD/a cellprofiler" run "$bpcp" cellprofiler -c 'a b' --help ';'
  assert_success
  assert_output '<-c><a b><--help><;> 1'
  BPCP_CELLPROFILER='"open' run "$bpcp" cellprofiler
  assert_failure 78
  BPCP_CELLPROFILER='no-such-cellprofiler -x' run "$bpcp" cellprofiler
  assert_failure 69
}
