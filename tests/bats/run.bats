#!/usr/bin/env bats
# The entry script over real GNU parallel and a fake CellProfiler: whole runs, failures and kills.
# shellcheck disable=SC2016,SC2030,SC2031,SC2089,SC2090,SC2154 # each test is a subshell of its own; names are hostile; run sets stderr

load screen

@test "a wrong command line is 64, and nothing is made" {
  local option
  for option in -d --dataset -p --pipeline -t --tmpdir -P --max-procs --group-by --chunk-size --format --plugins-directory --gpus; do
    run --separate-stderr "$entry" "$option"
    assert_failure 64
    [[ $stderr == *"$option needs a value"*--help* ]] || fail "$stderr"
  done
  for option in --nope --nope=1 -x plate -- --chunk; do
    run --separate-stderr "$entry" -d "$dataset" "$option" x
    assert_failure 64
  done
  run --separate-stderr "$entry" -p "$pipeline"
  assert_failure 64
  [[ $stderr == *'no dataset: -d NAME'* ]]
  run --separate-stderr "$entry" -d "$dataset"
  assert_failure 64
  [[ $stderr == *'no pipeline: -p FILE'* ]]
  run --separate-stderr "$entry" -d a/b -p "$pipeline"
  assert_failure 64
  [[ $stderr == *'not a name for a dataset'* ]]
  assert [ ! -e "$base/status" ]
  assert_equal "$(ran)" 0
}

@test "-P takes what GNU parallel takes" {
  local cores jobs
  cores=$(PYTHONPATH=$root "${BPCP_VENV:-$root/.venv}/bpcp/bin/python" -c 'from bpcp.limits import read_limits; print(read_limits().cores)')
  screen $((cores + 9))
  local wanted
  while read -r jobs wanted; do
    go -P "$jobs" --chunk-size 1 --dry-run
    assert_success
    [[ $stderr == *", $wanted at a time"$'\n'* ]] || fail "-P $jobs: $stderr"
  done <<END
8 8
08 8
50% $((cores / 2 > 0 ? cores / 2 : 1))
100% $cores
+1 $((cores + 1))
-1 $((cores > 1 ? cores - 1 : 1))
-999 1
0 $((cores + 9))
END
}

@test "-P refuses all else with 64" {
  local jobs
  for jobs in x 8x 1+1 --5 ' ' '1 2' + - % +% -% 5%% %5 +-1 1.5 50%1 '$(touch x)' 'a[$(touch x)]'; do
    go "-P" "$jobs" --dry-run
    assert_failure 64
    [[ $stderr == *"-P $jobs: not a number of jobs"*'8, 50%, +2, -1'* ]] || fail "-P $jobs: $stderr"
  done
}

@test "--gpus bounds -P, and gives each process a GPU" {
  screen 6
  local number cellprofiler=$BATS_TEST_TMPDIR/on-gpu
  for number in 0 00 -1 x 1.5 '' ' ' '1 2' 10000 'a[$(touch x)]'; do
    go --gpus "$number" --dry-run
    assert_failure 64
  done
  printf '#!/bin/sh\ncase "$*" in *" -r "*) echo "$CUDA_VISIBLE_DEVICES" >>%q ;; esac\nexec %q "$@"\n' \
    "$BATS_TEST_TMPDIR/gpus" "$BPCP_CELLPROFILER" >"$cellprofiler"
  chmod +x "$cellprofiler"
  unset CUDA_VISIBLE_DEVICES
  BPCP_CELLPROFILER=$cellprofiler FAKE_MODE=slow go -P 4 --gpus 2 --chunk-size 1
  assert_success
  [[ $stderr == *'in 6 chunks of 1, 2 at a time'* ]] || fail "$stderr"
  assert_equal "$(sort "$BATS_TEST_TMPDIR/gpus" | uniq | paste -sd ' ')" '0 1'
  assert_equal "$(wc -l <"$BATS_TEST_TMPDIR/gpus")" 6
}

@test "--plugins-directory takes a folder that is there" {
  screen 2
  mkdir "$base/my plugins"
  touch "$base/my plugins/callstripes.py"
  go --plugins-directory "$base/no such"
  assert_failure 66
  [[ $stderr == *"--plugins-directory $base/no such: no such folder"* ]] || fail "$stderr"
  go --plugins-directory "$base/my plugins"
  assert_success
  echo 1 >"$base/my plugins/callstripes.py"
  go --plugins-directory="$base/my plugins"
  [[ $stderr == *'plugins changed (callstripes.py): every image set runs again'* ]] || fail "$stderr"
}

@test "without GNU parallel it is 69" {
  local tools=$BATS_TEST_TMPDIR/tools
  mkdir "$tools"
  cp -s /usr/bin/* /bin/* "$tools/" 2>/dev/null || true
  rm -f "$tools/parallel"
  PATH=$tools go
  assert_failure 69
  [[ $stderr == *'missing: parallel'*ami_setup/install.sh* ]]
  printf '#!/bin/sh\necho "parallel: invalid option -- '\''-'\''" >&2\nexit 1\n' >"$tools/parallel"
  chmod +x "$tools/parallel"
  PATH=$tools go
  assert_failure 69
  [[ $stderr == *"$tools/parallel is not GNU parallel"*moreutils* ]]
  assert [ ! -e "$base/status" ]
}

@test "missing input is 66 and makes no folder" {
  go -p "$base/pipelines/gone.cppipe"
  assert_failure 66
  [[ $stderr == *'no pipeline: '*gone.cppipe*'measure.v2.cppipe'* ]]
  run --separate-stderr "$entry" -d other -p "$pipeline"
  assert_failure 66
  [[ $stderr == *'no image list: '*load_data_csv/other/load_data.csv* ]]
  run find "$base" -name status -o -name log -o -name analysis
  assert_output ''
}

@test "an unknown module is 65 and never done" {
  write_pipeline MeasureNoSuch >"$pipeline"
  go
  assert_failure 65
  [[ $stderr == *'Could not find the MeasureNoSuch module'* ]]
  [[ $stderr != *done* ]]
  [[ $stderr != *Traceback* ]]
  assert_equal "$(ran)" 0
  assert [ ! -e "$analysis" ]
}

@test "a folder that cannot be made is 73" {
  touch "$base/status"
  go
  assert_failure 73
  [[ $stderr == *"can't make $state"* ]]
}

@test "a whole run, and then nothing to do" {
  go
  assert_success
  assert_equal "$output" ''
  [[ $stderr == *'plan: 6 image sets in 3 chunks of 2'* ]]
  [[ $stderr == *'done: 6 of 6 image sets in '*'21 Nuclei'*"result: $analysis"* ]]
  complete 6
  clean
  assert_equal "$(ran)" 3
  assert_equal "$(cut -d, -f3 "$analysis/Image.csv" | tr -d '\r' | paste -sd' ')" \
    'FileName_DNA f1.tif f2.tif f3.tif f4.tif f5.tif f6.tif'
  # the chunks' own tables are packed, and what is packed is still merged
  run find "$state" -path '*/tables/*' -type f ! -name '*.gz'
  assert_output ''
  local before
  before=$(cd "$analysis" && find . -type f -exec sha256sum {} + | sort)
  rm "$analysis/Nuclei.csv"

  go
  assert_success
  [[ $stderr == *'nothing to do: 6 of 6 image sets are done already'* ]]
  assert_equal "$(ran)" 0
  assert_equal "$(cd "$analysis" && find . -type f -exec sha256sum {} + | sort)" "$before"
  run "$bpcp" status --dataset="$dataset" -p "$pipeline"
  assert_success
}

@test "a name with a line break, relative names, and a link to the entry script" {
  base=$BATS_TEST_TMPDIR/$'two\nlines'
  screen 3
  ln -s "$entry" "$base/a link"
  cd "$base/pipelines" || return
  run --separate-stderr "../a link" "--dataset=$dataset" --pipeline=measure.v2.cppipe --chunk-size=1 --max-procs=2
  assert_success
  complete 3
  assert_equal "$(ran)" 3
}

@test "-q prints nothing where all is well, and only what is wrong otherwise" {
  go -q
  assert_success
  assert_equal "$output$stderr" ''
  complete 6
  rm "$base/images & more/f2.tif"
  screen 7
  rm "$base/images & more/f7.tif"
  go -q
  assert_failure 1
  [[ $stderr == *'missing file'*f7.tif* ]]
}

@test "-v says each step and each chunk, also into a file that holds something" {
  local log=$BATS_TEST_TMPDIR/log
  printf 'before\n' >"$log"
  "$entry" -d "$dataset" -p "$pipeline" --chunk-size 2 -v 2>>"$log"
  assert_equal "$(head -n 1 "$log")" before
  run cat "$log"
  assert_line --partial 'plan: 6 image sets in 3 chunks'
  assert_equal "$(grep -c 'event=chunk chunk=.* done=2 failed=0 attempts=1' "$log")" 3
  assert_line --partial 'done: 6 of 6 image sets'
}

@test "--dry-run writes nothing" {
  local before
  before=$(find "$base" | sort)
  go --dry-run
  assert_success
  assert_equal "${#lines[@]}" 4
  assert_line --index 0 $'chunk\timage_sets\tfirst\tlast\tfirst_row\tstate'
  assert_equal "$(find "$base" | sort)" "$before"
  assert_equal "$(ran)" 0
  run find "$TMPDIR" -mindepth 1
  assert_output ''
}

@test "--keep-chunks, --format, -t and -k" {
  mkdir "$BATS_TEST_TMPDIR/ram disk"
  run --separate-stderr "$entry" -d "$dataset" -p "$pipeline" -k --keep-chunks --format parquet \
    --format=sqlite -t "$BATS_TEST_TMPDIR/ram disk" -v
  assert_success
  [[ $stderr == *'in 2 chunks of 3, grouped by Plate'* ]]
  run find "$state" -path '*/tables/*' -name '*.gz'
  assert_output ''
  run find "$BATS_TEST_TMPDIR/ram disk" -mindepth 1
  assert_output ''
  assert_equal "$(head -c 4 "$analysis/Nuclei.parquet")" PAR1
  assert_equal "$(head -c 13 "$analysis/measure.sqlite")" 'SQLite format'
  ran
  screen 7
  go --format excel
  assert_failure 64
  # refused before anything ran
  assert_equal "$(ran)" 0
  [[ $stderr == *csv*parquet*sqlite* ]]
}

@test "failed image sets are 1 and named; mended, only they run again" {
  local kept=$BATS_TEST_TMPDIR/kept
  mv "$base/images & more/f3.tif" "$kept"
  FAKE_MODE=module-error FAKE_AT=f6.tif go
  assert_failure 1
  [[ $stderr == *'done: 4 of 6 image sets in '*', 2 failed'* ]]
  [[ $stderr == *"line 4 of load_data.csv (P1 A03): missing file"*"$base/images & more/f3.tif"* ]]
  [[ $stderr == *'line 7 of load_data.csv (P2 A06): 01LoadData failed'* ]]
  complete 4
  assert_equal "$(cut -d, -f8 "$analysis/Image.csv" | paste -sd' ')" 'ImageNumber 1 2 4 5'
  run "$bpcp" status --dataset="$dataset" -p "$pipeline"
  assert_failure 1
  rm "$FAKE_JOURNAL"

  mv "$kept" "$base/images & more/f3.tif"
  go
  assert_success
  assert_equal "$(images | paste -sd' ')" 'f3.tif f6.tif'
  complete 6
}

@test "retry tries only what failed, with no options to remember" {
  local kept=$BATS_TEST_TMPDIR/kept
  mv "$base/images & more/f3.tif" "$kept"
  FAKE_MODE=module-error FAKE_AT=f6.tif go --chunk-size 2
  assert_failure 1
  [[ $stderr == *'→ then: bpcp retry -d '* ]]
  mv "$kept" "$base/images & more/f3.tif"
  rm "$FAKE_JOURNAL"
  run --separate-stderr "$bpcp" retry --dataset="$dataset" -p "$pipeline"
  assert_success
  [[ $stderr == *'retry: 2 image sets that failed'*'done: 6 of 6 image sets in '* ]]
  assert_equal "$(images | paste -sd' ')" 'f3.tif f6.tif'
  complete 6
  run --separate-stderr "$bpcp" retry --dataset="$dataset" -p "$pipeline"
  assert_failure 66
  [[ $stderr == *'no image set has failed'* ]]
}

@test "retry leaves alone what never ran, also where something fails again" {
  FAKE_MODE=module-error FAKE_AT=f1.tif go --chunk-size 2
  assert_failure 1
  # as after a run that was stopped
  local chunk
  chunk=$(grep -l f6.tif "$state"/chunks/*/images.csv)
  rm "${chunk%/*}/done.json" "$FAKE_JOURNAL"
  FAKE_MODE=module-error FAKE_AT=f1.tif run --separate-stderr "$bpcp" retry --dataset="$dataset" -p "$pipeline"
  assert_failure 75
  assert_equal "$(images | paste -sd' ')" 'f1.tif'
  [[ $stderr == *'3 of 6 image sets done, 1 failed, 2 left'*'run_analysis_pipeline.sh'* ]]
}

@test "a run-chunk that is killed while it tries again is started once more" {
  # a CellProfiler that kills, once it is armed, the process that started it
  printf '#!/bin/bash\n! rm %q 2>/dev/null || kill -KILL "$PPID"\nexec %q "$@"\n' \
    "$BATS_TEST_TMPDIR/armed" "$BPCP_CELLPROFILER" >"$BATS_TEST_TMPDIR/kills"
  chmod +x "$BATS_TEST_TMPDIR/kills"
  export BPCP_CELLPROFILER=$BATS_TEST_TMPDIR/kills
  FAKE_MODE=module-error FAKE_AT=f3.tif go --chunk-size 2
  assert_failure 1
  touch "$BATS_TEST_TMPDIR/armed"
  run --separate-stderr "$bpcp" retry --dataset="$dataset" -p "$pipeline"
  assert [ ! -e "$BATS_TEST_TMPDIR/armed" ]
  assert_success
  complete 6
}

@test "what hangs, and what writes half a table and says Complete, is ended and named" {
  FAKE_MODE=hang FAKE_AT=f2.tif go --chunk-size 3 --stall-min 0.05 --retries 0
  assert_failure 1
  [[ $stderr == *'line 3 of load_data.csv (P1 A02): no sign of life for 0.05 min, after LoadData'* ]]
  FAKE_MODE=half FAKE_AT=f2.tif run --separate-stderr "$bpcp" retry --dataset="$dataset" -p "$pipeline"
  assert_failure 1
  [[ $stderr == *'line 3 of load_data.csv (P1 A02): Image.csv ends in the middle of a line'* ]]
  run --separate-stderr "$bpcp" status --dataset="$dataset" -p "$pipeline" --json
  [[ $output == *'"kind": "output-incomplete"'* ]]
  complete 5
}

@test "a run ends with an audit: what was changed meanwhile is 1 and named" {
  go
  assert_success
  (cd "$analysis" && sha256sum --quiet -c "$state/manifest.sha256")
  local saved
  saved=$(find "$analysis" -name 'f2_overlay.png')
  printf x | dd of="$saved" conv=notrunc status=none
  go
  assert_failure 1
  [[ $stderr == *'does not add up: 1 fault'*'f2_overlay.png'*'the result is not as it should be'* ]]
}

@test "the words at the end are a command that goes on" {
  export PATHNAME_BASENAME=$BATS_TEST_TMPDIR/'other root; "ü"'
  mkdir "$PATHNAME_BASENAME"
  mv "$base/images & more" "$PATHNAME_BASENAME/"
  begin
  kill -TERM "$started"
  ended
  assert_equal "$code" 75
  [[ $said == *'stopped: 0 of 6 image sets done, 6 left'* ]]
  local command=${said##*→ go on with: }
  unset PATHNAME_BASENAME
  run bash -c "$command"
  assert_success
  complete 6
}

@test "run without a plan is 66 and leaves no folders" {
  run --separate-stderr "$bpcp" run -d "$dataset" -p "$pipeline"
  assert_failure 66
  [[ $stderr == *"nothing is planned for $dataset"*'bpcp plan --dataset='* ]]
  run find "$base" -name status -o -name log -o -name analysis
  assert_output ''
  # and what is there stays
  mkdir -p "$base/log/$dataset/measure" "$base/status/other"
  touch "$base/log/$dataset/measure/mine"
  run --separate-stderr "$bpcp" run -d "$dataset" -p "$pipeline"
  assert_failure 66
  assert [ -e "$base/log/$dataset/measure/mine" ]
  assert [ -d "$base/status/other" ]
}

@test "a dataset may be called tables" {
  # as the folders that are packed
  dataset=tables
  screen 3
  go
  assert_success
  ran
  run find "$state" -path '*/chunks/*/tables/*' -type f ! -name '*.gz'
  assert_output ''
  assert [ -e "$state/run.json" ]
  go
  assert_success
  [[ $stderr == *'nothing to do: 3 of 3'* ]]
  assert_equal "$(ran)" 0
}

@test "a gzip that fails does not fail the run" {
  local tools=$BATS_TEST_TMPDIR/tools
  mkdir "$tools"
  printf '#!/bin/sh\necho "gzip: no room" >&2\nexit 1\n' >"$tools/gzip"
  chmod +x "$tools/gzip"
  PATH=$tools:$PATH go
  assert_success
  [[ $stderr == *'done: 6 of 6'* ]]
  run grep -c not_packed "$base/log/$dataset/measure/events.log"
  assert_output 1
  complete 6
  go
  assert_success
  assert_equal "$(ran)" 3
}

@test "options and their values may stand in one word" {
  mkdir "$BATS_TEST_TMPDIR/scratch"
  run --separate-stderr "$entry" "-d$dataset" "-p$pipeline" "-t$BATS_TEST_TMPDIR/scratch" -P4 \
    --chunk-size=1 --dry-run
  assert_success
  [[ $stderr == *'in 6 chunks of 1, 4 at a time'* ]]
  run "$bpcp" plan "-d$dataset" "-p$pipeline" -q
  assert_success
  run --separate-stderr "$bpcp" run "-d$dataset" "-p$pipeline" -P2 -q
  [[ $stderr == *'6 of 6 image sets done'* ]]
  for option in -Px -Q4 -x; do
    go "$option"
    assert_failure 64
  done
}

@test "-P 0 is no reason to cut into one chunk each" {
  local cores
  cores=$(PYTHONPATH=$root "${BPCP_VENV:-$root/.venv}/bpcp/bin/python" -c 'from bpcp.limits import read_limits; print(read_limits().cores)')
  screen $((cores * 2))
  run --separate-stderr "$entry" -d "$dataset" -p "$pipeline" -P 0 --dry-run
  assert_success
  [[ $stderr == *"image sets in $cores chunk"* ]] || fail "$stderr"
}

@test "each step is a command of its own" {
  run "$bpcp" plan --dataset="$dataset" -p "$pipeline" --chunk-size 2 -q
  assert_success
  assert_output ''
  run "$bpcp" status --dataset="$dataset" -p "$pipeline"
  assert_failure 75
  local chunk
  chunk=$(find "$state/chunks" -mindepth 1 -maxdepth 1 -printf '%f\n' | head -n 1)
  run "$bpcp" run-chunk "$state" "$chunk"
  assert_success
  run --separate-stderr "$bpcp" merge --dataset="$dataset" -p "$pipeline"
  assert_failure 75
  [[ $stderr == *'2 of 3 chunks are not done'* ]]
  run --separate-stderr "$bpcp" run -d "$dataset" -p "$pipeline" -q
  assert_failure 75
  [[ $stderr == *'6 of 6 image sets done'*'not merged yet'* ]]
  assert_equal "$(ran)" 3
  run --separate-stderr "$bpcp" merge --dataset="$dataset" -p "$pipeline"
  assert_success
  [[ $stderr == *'merged: 3 tables, 21 objects'* ]]
  run "$bpcp" status --dataset="$dataset" -p "$pipeline"
  assert_success
  run "$bpcp" compare "$analysis" "$analysis"
  assert_success
}
