# A workspace over real GNU parallel and a fake CellProfiler, and what tests do in it; sourced by
# them. Names are hostile: with what a shell, a CSV or GNU parallel could stumble over.
# shellcheck disable=SC2016,SC2034,SC2119,SC2154 # hostile names; run sets stderr, and load the functions of bats

setup() {
  bats_require_minimum_version 1.5.0
  export BATS_LIB_PATH=${BATS_LIB_PATH:-/usr/lib/bats}
  load "$BATS_LIB_PATH/bats-support/load"
  load "$BATS_LIB_PATH/bats-assert/load"
  root=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
  entry=$root/run_analysis_pipeline.sh
  bpcp=$root/bin/bpcp
  unset PATHNAME_BASENAME BPCP_LOCK_HELD
  export HOME=$BATS_TEST_TMPDIR/home TMPDIR=$BATS_TEST_TMPDIR/tmp
  export BPCP_CELLPROFILER=$root/tests/fakes/cellprofiler FAKE_JOURNAL=$BATS_TEST_TMPDIR/journal
  mkdir -p "$HOME" "$TMPDIR" "$BATS_TEST_TMPDIR/cwd"
  cd "$BATS_TEST_TMPDIR/cwd" || return
  # names that a shell, a CSV or GNU parallel could stumble over
  base=$BATS_TEST_TMPDIR/'it'\''s; $(touch x) & "ü" {} `touch y`'
  dataset='-plate 1; $(touch x) & "ü" {}'
  screen 6
}

teardown() {
  # nothing in a name may have been run as a command
  run find "$BATS_TEST_TMPDIR/cwd" -mindepth 1
  assert_output ''
  if [[ -n ${started:-} ]]; then
    kill -KILL "$started" 2>/dev/null || true
  fi
}

# image FILE SIZE -- makes a TIFF file of SIZE bytes, 140 or more: one grey pixel, and what follows it
image() {
  # shellcheck disable=SC2059 # the bytes are the format
  printf "$(printf '%s' \
    '\111\111\052\000\010\000\000\000\011\000\000\001\003\000\001\000\000\000\001\000\000\000\001\001' \
    '\003\000\001\000\000\000\001\000\000\000\002\001\003\000\001\000\000\000\010\000\000\000\003\001' \
    '\003\000\001\000\000\000\001\000\000\000\006\001\003\000\001\000\000\000\001\000\000\000\021\001' \
    '\004\000\001\000\000\000\010\000\000\000\025\001\003\000\001\000\000\000\001\000\000\000\026\001' \
    '\003\000\001\000\000\000\001\000\000\000\027\001\004\000\001\000\000\000\001\000\000\000\000\000' \
    '\000\000')" >"$1"
  truncate -s "$2" "$1"
}

# screen COUNT -- makes a workspace with COUNT image sets, and sets pipeline, list, state and analysis
screen() {
  local i
  mkdir -p "$base/pipelines" "$base/load_data_csv/$dataset" "$base/images & more"
  pipeline=$base/pipelines/measure.v2.cppipe
  list=$base/load_data_csv/$dataset/load_data.csv
  state=$base/status/$dataset/measure
  analysis=$base/analysis/$dataset/measure
  printf 'FileName_DNA,PathName_DNA,Metadata_Plate,Metadata_Well\r\n' >"$list"
  for ((i = 1; i <= $1; i++)); do
    # a file of n bytes has n modulo 7 nuclei
    image "$base/images & more/f$i.tif" $((140 + i))
    printf 'f%d.tif,images & more,P%d,A%02d\r\n' "$i" $(((i + 2) / 3)) "$i" >>"$list"
  done
  write_pipeline >"$pipeline"
}

# write_pipeline [MODULE] -- prints a pipeline
write_pipeline() {
  cat <<END
CellProfiler Pipeline: http://www.cellprofiler.org
Version:5

LoadData:[module_num:1|enabled:True]
    Base image location:None|
    Process just a range of rows?:No
    Group images by metadata?:No

${1:-IdentifyPrimaryObjects}:[module_num:2|enabled:True]
    Name the primary objects to be identified:Nuclei

ExportToSpreadsheet:[module_num:3|enabled:True]
    Select the column delimiter:Comma (",")
    Output file location:Default Output Folder|
    Export all measurement types?:Yes
    Add a prefix to file names?:No
END
}

# go ARG... -- runs the entry script on the workspace
go() {
  run --separate-stderr "$entry" -d "$dataset" -p "$pipeline" --chunk-size 2 "$@"
}

# ran -- prints how many CellProfiler processes were started since the last call
ran() {
  local count=0
  [[ -e $FAKE_JOURNAL ]] && count=$(wc -l <"$FAKE_JOURNAL") && rm "$FAKE_JOURNAL"
  printf '%d\n' "$count"
}

# has_run N -- succeeds when so many CellProfiler processes were started since `ran` was called last
has_run() {
  [[ $(wc -l <"$FAKE_JOURNAL") -ge $1 ]]
}

# images -- prints the images that CellProfiler processes were given, a process each line
images() {
  sed 's/.*"images": \[\(.*\)\].*/\1/; s/[",]//g' "$FAKE_JOURNAL" | sort
}

# complete COUNT -- asserts that the result holds COUNT image sets
complete() {
  assert_equal "$(python3 -c 'import csv, sys
print(len(list(csv.DictReader(open(sys.argv[1], newline="")))))' "$analysis/Image.csv")" "$1"
}

# until_true COMMAND... -- waits for a command to succeed, for at most half a minute
until_true() {
  local i
  for ((i = 0; i < 600; i++)); do
    "$@" && return
    sleep 0.05
  done
  fail "waited in vain: $*"
}

# begin ARG... -- starts the entry script in the background, with slow image sets, until one runs
begin() {
  rm -f "$FAKE_JOURNAL"
  # an asynchronous child would ignore INT
  FAKE_MODE=slow FAKE_SLEEP=${slow:-60} env --default-signal=INT,HUP,TERM \
    "$entry" -d "$dataset" -p "$pipeline" --chunk-size 2 "$@" \
    >"$BATS_TEST_TMPDIR/out" 2>"$BATS_TEST_TMPDIR/err" 3>&- &
  started=$!
  until_true test -s "$FAKE_JOURNAL"
}

# ended -- waits for what `begin` started; sets code
ended() {
  code=0
  wait "$started" || code=$?
  started=
  said=$(<"$BATS_TEST_TMPDIR/err")
}

# family PID -- prints a process and all that came of it, one a line
family() {
  local child
  printf '%s\n' "$1"
  for child in $(pgrep -P "$1"); do
    family "$child"
  done
}

# member NAME PID... -- prints the first of some processes whose command line holds NAME
member() {
  local name=$1 pid
  shift
  for pid in "$@"; do
    if tr '\0' ' ' <"/proc/$pid/cmdline" | grep -q -- "$name"; then
      printf '%s\n' "$pid"
      return
    fi
  done
  return 1
}

# none_left PID... -- succeeds where none of some processes runs any more
none_left() {
  local pid
  for pid in "$@"; do
    if [[ -e /proc/$pid/status ]] && ! grep -q '^State:.Z' "/proc/$pid/status"; then
      return 1
    fi
  done
}

# clean -- asserts that no attempt left a folder or says that it runs
clean() {
  run find "$state" -path '*/attempts/*' -o -name running.json
  assert_output ''
}

# find_done -- succeeds where a chunk is done
find_done() {
  find "$state/chunks" -name done.json 2>/dev/null | grep -q .
}

# sees NAME -- sets processes and victim, where a process with NAME runs
sees() {
  mapfile -t processes < <(family "$started")
  victim=$(member "$1" "${processes[@]}")
}

# killed NAME -- kills the process of the family whose command line holds NAME, at a second chunk
killed() {
  slow=1 begin -P 1
  until_true find_done
  local name=$1
  until_true sees "$name"
  kill -KILL "$victim"
}

# goes_on -- asserts that the same command completes, and that done chunks do not run again
goes_on() {
  local finished
  finished=$(find "$state/chunks" -name done.json | wc -l)
  assert [ "$finished" -ge 1 ]
  ran
  go
  assert_success
  assert_equal "$(ran)" $((3 - finished))
  complete 6
  clean
}

# marked -- prints the processes that carry the run's mark
marked() {
  local file pid
  for file in /proc/[0-9]*/environ; do
    # it may be gone by now
    if grep -qzxF -- "BPCP_RUN=$state" "$file" 2>/dev/null; then
      pid=${file#/proc/}
      printf '%s\n' "${pid%/environ}"
    fi
  done
}

# nothing_runs -- succeeds where no process carries the run's mark
nothing_runs() {
  [[ -z $(marked) ]]
}
