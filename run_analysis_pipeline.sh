#!/usr/bin/env bash
# Summary: run a CellProfiler pipeline over a whole dataset, on every core of this machine
#
# Usage: ./run_analysis_pipeline.sh -d DATASET -p PIPELINE [OPTION ...]
#
# Reads <base>/load_data_csv/<dataset>/load_data.csv, where <base> holds the
# folder pipelines/ that PIPELINE lies in, or, for a pipeline that reads by Images
# and NamesAndTypes, <base>/filelist/<dataset>/filelist.txt. Leaves in
# <base>/analysis/<dataset>/<pipeline>/ what one CellProfiler process would have
# written over all of it. Run it again at any time: what is done stays.
#
#   -d, --dataset NAME      the dataset
#   -p, --pipeline FILE     the pipeline: .cppipe, .cpproj, or a Batch_data.h5
#   -t, --tmpdir DIR        where processes work (default: in <base>/status): a
#                           RAM disk or a fast local disk; images of other disks
#                           are copied there ahead of them, as far as there is room
#       --ramdisk SIZE      make a RAM disk for this run and work there: 8G, or auto
#                           for what images need and memory leaves; gone afterwards
#   -P, --max-procs JOBS    processes at once, as GNU parallel's -P: 8, 50%, +2,
#                           -1, or 0 for no limit (default: one for each core, or
#                           fewer, where memory carries fewer by `bpcp profile`)
#   -k, --group_by_plate    one chunk for each plate; is --group-by Plate
#   -c, --create_groups_from_data_file
#                           take plates and wells from load_data.csv, and leave
#                           metadata/<dataset>/{platelist,welllist}.txt out of
#                           account; where these are there, they select what runs
#   -w, --overwrite_batchfile
#                           prepare anew: ask CellProfiler again about the pipeline,
#                           cut anew what is done, if it is asked to be cut otherwise,
#                           and take the place of another pipeline's result
#       --group-by KEY[,KEY]
#                           one chunk for each value of these metadata, or, with
#                           --chunk-size, as many whole groups as fit
#       --chunk-size N      image sets in a chunk (default: about 24, the same
#                           number of chunks for each core)
#       --no-check          do not look at all image files before the first process
#                           starts; otherwise bad ones are named at once
#       --no-fix            refuse a pipeline that needs mending; otherwise a copy of
#                           it is mended, and said how
#       --quarantine        leave out image sets whose files are bad; otherwise they
#                           count as failed, and the rest is analysed
#       --map OLD=NEW       folders that the list names by another machine's paths,
#                           such as 'E:\screen'=/data/screen; may be given many times
#   -i, --input-folder DIR  CellProfiler's Default Input Folder, for pipelines
#                           that read rules, models or CSVs from there; it is not
#                           searched for images (default: as CellProfiler, the
#                           home folder)
#       --input URL         s3://BUCKET/PREFIX: where images are that are not here.
#                           The prefix's tree stands for the root of the images;
#                           they are fetched ahead, verified, and removed when done
#       --space SIZE        how much room fetched images may take at once (default:
#                           most of what is free)
#       --output URL        s3://BUCKET/PREFIX: where results, tables, logs and state
#                           go as chunks finish. A fresh machine that is given the
#                           same goes on from there
#       --endpoint-url URL  another S3 service than Amazon's
#       --profile NAME      a profile of the AWS CLI's configuration
#       --no-sign-request   read images unsigned, as public buckets allow, although
#                           there are credentials; for --input and s3:// addresses of
#                           the list. --output is always signed
#       --cloudwatch GROUP  send the run's events to this CloudWatch log group
#       --retries N         tries again what may pass a second time: a crash, a stall,
#                           a timeout (default: 1)
#       --plugins-directory DIR
#                           the folder of the plugins that the pipeline uses; where
#                           one of them changes, image sets run again
#       --gpus N            share N GPUs among processes, one process on each: no
#                           more than N run at once, and CUDA_VISIBLE_DEVICES tells
#                           each its own
#       --stall-min MIN     end a CellProfiler that shows no life for so long: no log
#                           line, no CPU (default: 10)
#       --max-failures N    stop when so many image sets have failed, or N% of all
#                           (default: when nothing of the first chunks succeeded)
#       --grace-s SECONDS   on Ctrl-C, TERM or a closed terminal, let chunks that run
#                           finish for so long (default: 5); a second Ctrl-C ends
#                           them at once
#       --format NAME       also write the tables as parquet or sqlite
#       --keep-chunks       leave the chunks' tables as they are; otherwise they are
#                           compressed once they are merged
#       --dry-run           say what would run and how it would be cut; write nothing
#   -q, --quiet             say nothing but what is wrong
#   -v, --verbose           say each step, and each chunk with what it took
#   -h, --help              this
#
# Environment: PATHNAME_BASENAME, the root of image folders that are relative
# (default: <base>); BPCP_CELLPROFILER, another CellProfiler command to use;
# MYSQL_PWD, or BPCP_MYSQL_DEFAULTS, a file as ~/.my.cnf, for ExportToDatabase to
# MySQL; the AWS_ variables that the AWS CLI knows. On a spot instance its two-minute
# notice is watched for: no new chunks, what is done goes to the bucket, exit 75.
#
# Exit status: 0 all done; 1 some image sets failed, they are listed, or the run was
# given up, or the result does not add up; 64 wrong command line; 65 malformed
# input; 66 missing input; 69 a tool is missing; 73 cannot create output; 74 copying
# to or from S3 failed; 75 stopped early, or another run is at work: the same command
# goes on; 77 no permission; 78 a bad setting, such as no credentials.
#
# Example: ./run_analysis_pipeline.sh -d demo -p demo/pipelines/demo.cppipe
set -euo pipefail

here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
# shellcheck source=bin/lib/common.bash
source "$here/bin/lib/common.bash"
# shellcheck source=bin/lib/pool.bash
source "$here/bin/lib/pool.bash"
# shellcheck source=bin/lib/finish.bash
source "$here/bin/lib/finish.bash"
# shellcheck source=bin/lib/ramdisk.bash
source "$here/bin/lib/ramdisk.bash"

dataset='' pipeline='' tmpdir='' ramdisk='' output='' jobs='' gpus='' keep='' dry_run='' quiet='' verbose=''
plan=() access=() formats=()

# add_format NAME -- asks for tables in one more format
add_format() {
  case $1 in
    csv | parquet | sqlite) formats+=("$1") plan+=("--format=$1") ;;
    *) die 64 "--format $1: there is no such format" "csv, parquet, sqlite" ;;
  esac
}

# set_grace SECONDS -- sets how long chunks have to finish when the run is stopped
set_grace() {
  [[ $1 =~ ^[0-9]{1,6}$ ]] || die 64 "--grace-s $1: not a number of seconds" "0, 5, 600"
  GRACE_S=$((10#$1))
}

# set_gpus N -- sets how many GPUs there are
set_gpus() {
  [[ $1 =~ ^[1-9][0-9]{0,3}$ ]] || die 64 "--gpus $1: not a number of GPUs" "1, 2, 8"
  gpus=$1 plan+=("--gpus=$1")
}

# parse ARG... -- reads the command line into the variables above
parse() {
  while [[ $# -gt 0 ]]; do
    case $1 in
      -d | --dataset) need_value "$1" "${@:2:1}" && dataset=$2 && shift 2 ;;
      -p | --pipeline) need_value "$1" "${@:2:1}" && pipeline=$2 && shift 2 ;;
      -t | --tmpdir) need_value "$1" "${@:2:1}" && tmpdir=$2 && shift 2 ;;
      --ramdisk) need_value "$1" "${@:2:1}" && ramdisk=$2 && shift 2 ;;
      -P | --max-procs) need_value "$1" "${@:2:1}" && jobs=$2 && shift 2 ;;
      -k | --group_by_plate) plan+=(-k) && shift ;;
      -c | --create_groups_from_data_file) plan+=(-c) && shift ;;
      -w | --overwrite_batchfile) plan+=(-w) && shift ;;
      --group-by) need_value "$1" "${@:2:1}" && plan+=("--group-by=$2") && shift 2 ;;
      --chunk-size) need_value "$1" "${@:2:1}" && plan+=("--chunk-size=$2") && shift 2 ;;
      --no-check) plan+=("$1") && shift ;;
      --no-fix) plan+=("$1") && shift ;;
      --quarantine) plan+=("$1") && shift ;;
      --map) need_value "$1" "${@:2:1}" && plan+=("--map=$2") && shift 2 ;;
      -i | --input-folder) need_value "$1" "${@:2:1}" && plan+=("--input-folder=$2") && shift 2 ;;
      --output) need_value "$1" "${@:2:1}" && output=$2 && shift 2 ;;
      --input) need_value "$1" "${@:2:1}" && plan+=("--input=$2") && shift 2 ;;
      --endpoint-url) need_value "$1" "${@:2:1}" && access+=("--endpoint-url=$2") && shift 2 ;;
      --profile) need_value "$1" "${@:2:1}" && access+=("--profile=$2") LOG_ACCESS=("--profile=$2") && shift 2 ;;
      # for reading alone; writing needs credentials
      --no-sign-request) plan+=("$1") && shift ;;
      --cloudwatch) need_value "$1" "${@:2:1}" && LOG_GROUP=$2 && shift 2 ;;
      --retries) need_value "$1" "${@:2:1}" && plan+=("--retries=$2") && shift 2 ;;
      --plugins-directory) need_value "$1" "${@:2:1}" && plan+=("--plugins-directory=$2") && shift 2 ;;
      --gpus) need_value "$1" "${@:2:1}" && set_gpus "$2" && shift 2 ;;
      --stall-min) need_value "$1" "${@:2:1}" && plan+=("--stall-min=$2") && shift 2 ;;
      --max-failures) need_value "$1" "${@:2:1}" && MAX_FAILURES=$2 && shift 2 ;;
      --grace-s) need_value "$1" "${@:2:1}" && set_grace "$2" && shift 2 ;;
      --space) need_value "$1" "${@:2:1}" && plan+=("--space=$2") && shift 2 ;;
      --format) need_value "$1" "${@:2:1}" && add_format "$2" && shift 2 ;;
      --keep-chunks) keep=1 && shift ;;
      --dry-run) dry_run=1 && shift ;;
      -q | --quiet) quiet=1 && shift ;;
      -v | --verbose) verbose=1 && shift ;;
      --*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
      -[dptPi]?*) set -- "${1:0:2}" "${1:2}" "${@:2}" ;;
      --) shift && break ;;
      *) die 64 "unknown option: $1" "$0 --help" ;;
    esac
  done
  [[ $# -eq 0 ]] || die 64 "not an option: $1" "$0 --help"
  [[ -n $dataset ]] || die 64 "no dataset: -d NAME" "$0 --help"
  [[ -n $pipeline ]] || die 64 "no pipeline: -p FILE" "$0 --help"
  [[ -z $tmpdir || -z $ramdisk ]] || die 64 "-t and --ramdisk exclude each other" "$0 --help"
}

# make_ramdisk SLOTS -- makes the RAM disk that was asked for
make_ramdisk() {
  local bytes
  bytes=$(python_step bpcp.ramdisk "$STATUS_DIR" --slots "$1") || return
  open_ramdisk "$RAMDISK_DIR" "$bytes"
  told "RAM disk: $((bytes >> 20)) MB at $RAMDISK_DIR"
}

main() {
  if wants_help "$@"; then
    print_help "${BASH_SOURCE[0]}"
    return
  fi
  parse "$@"
  local slots started before
  started=$(date +%s)
  [[ -z $MAX_FAILURES ]] || python_step bpcp.run.guard . "--max-failures=$MAX_FAILURES" --check
  slots=$(slots_of "$jobs" "$dataset" "$pipeline" "$quiet")
  [[ -z $gpus || $slots -le $gpus ]] || slots=$gpus
  # with =, for a name may begin with a dash
  plan+=("--dataset=$dataset" "--pipeline=$pipeline" --slots "$slots" ${quiet:+-q} "${access[@]}")
  plan+=(${tmpdir:+"--tmpdir=$tmpdir"} ${ramdisk:+"--ramdisk=$ramdisk"} ${output:+"--output=$output"})
  need_tools
  if [[ -n $dry_run ]]; then
    run_python bpcp.plan "${plan[@]}" --dry-run
  fi
  open_run "$dataset" "$pipeline"
  take_lock
  catch_signals
  start_guard

  if [[ -n $output ]]; then
    told "output: $output"
    step bpcp.sync start "--dataset=$dataset" "--pipeline=$pipeline" "--output=$output" "${access[@]}" \
      ${quiet:+-q} ||
      leave $? "$0" "$@"
  fi
  told "plan: $STATUS_DIR"
  step bpcp.plan "${plan[@]}" || leave $? "$0" "$@"
  if [[ -n $ramdisk ]]; then
    make_ramdisk "$slots" || leave $? "$0" "$@"
  fi
  before=$(python_step bpcp.run.closing "$STATUS_DIR" --before)
  told "run: CellProfiler's logs are in $LOG_DIR"
  run_pool "$slots" "$quiet" "$verbose"
  finish_run "$slots" "$started" "$before" "$keep" "${formats[@]}" -- "$0" "$@"
}

main "$@"
