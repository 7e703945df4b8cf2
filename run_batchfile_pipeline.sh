#!/usr/bin/env bash
# Summary: make Batch_data.h5, the image sets that CellProfiler makes of a list of files
#
# Usage: ./run_batchfile_pipeline.sh -d DATASET -p PIPELINE [OPTION ...]
#
# For a pipeline that reads by Images, Metadata, NamesAndTypes and Groups: gives
# CellProfiler the paths in <base>/filelist/<dataset>/filelist.txt, or a project's
# own, once, and keeps what it makes of them in
# <base>/status/<dataset>/<pipeline>/Batch_data.h5. It is made again where the list,
# the pipeline or CellProfiler changed. ./run_analysis_pipeline.sh does the same
# before it plans; this does it alone, and says what is in it.
#
#   -d, --dataset NAME      the dataset
#   -p, --pipeline FILE     the pipeline: .cppipe or .cpproj
#   -t, --tmpdir DIR        where CellProfiler works meanwhile (default: TMPDIR)
#   -w, --overwrite_batchfile
#                           make it again, whatever did not change
#       --map OLD=NEW       folders that the list names by another machine's paths,
#                           such as 'E:\screen'=/data/screen; may be given many times
#   -i, --input-folder DIR  CellProfiler's Default Input Folder, for pipelines
#                           that read rules, models or CSVs from there; it is not
#                           searched for images (default: as CellProfiler, the
#                           home folder)
#       --plugins-directory DIR
#                           the folder of the plugins that the pipeline uses
#   -q, --quiet             say nothing but what is wrong
#   -h, --help              this
#
# Prints the file's path. Environment: PATHNAME_BASENAME and BPCP_CELLPROFILER, as
# for ./run_analysis_pipeline.sh.
#
# Exit status: 0; 65 CellProfiler makes no image set of these files; 66 no list, no
# pipeline; 75 the run is at work; 64, 69, 73, 77, 78 as in README.
#
# Example: ./run_batchfile_pipeline.sh -d plate1 -p /data/pipelines/analysis.cppipe
set -euo pipefail

# shellcheck source=bin/lib/common.bash
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/bin/lib/common.bash"

python_command "${BASH_SOURCE[0]}" bpcp.batchfile "$@"
