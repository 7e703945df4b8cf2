#!/usr/bin/env bash
# What every start of a process would otherwise do again: bpcp's byte-code, which its users may
# not write, and an archive of the Java classes that CellProfiler loads (class-data sharing),
# recorded from a real run of one image set.
set -euo pipefail

here=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/.." && pwd)
# shellcheck source=bin/lib/common.bash
source "$here/../bin/lib/common.bash"

# one_image_set DIR -- runs CellProfiler over the first field of the demo in DIR
one_image_set() {
  # Bio-Formats finds no image from /
  cd -- "$1"
  rm -rf -- out
  "$BPCP_ROOT/bin/bpcp" cellprofiler -c -r -p "$1/pipelines/demo.cppipe" \
    --data-file "$1/load_data_csv/demo/load_data.csv" -f 1 -l 1 -o out
}

# from_archive LOG -- prints how many classes the JVM took from the archive, by its -Xlog:class+load
from_archive() {
  # it fails where it counts none; it prints 0 then, which is the answer
  grep -c 'source: shared objects file (top)' "$1" || true
}

main() {
  local archive=$BPCP_VENV/cellprofiler.jsa classes
  scratch=$(mktemp -d)
  trap 'rm -rf -- "$scratch"' EXIT
  "$BPCP_VENV/bpcp/bin/python" -m compileall -q "$BPCP_ROOT/bpcp"

  "$BPCP_ROOT/bin/bpcp" demo --wells 1 --sites 2 "$scratch/demo" 2>/dev/null
  JAVA_TOOL_OPTIONS="-XX:ArchiveClassesAtExit=$scratch/cellprofiler.jsa" \
    one_image_set "$scratch/demo" >"$scratch/log" 2>&1 || {
    tail -n 20 -- "$scratch/log" >&2
    exit 1
  }
  # the whole file or none: a JVM dies of half an archive
  install -m 644 -- "$scratch/cellprofiler.jsa" "$archive.new"
  mv -f -- "$archive.new" "$archive"

  JAVA_TOOL_OPTIONS="-XX:SharedArchiveFile=$archive -Xlog:class+load:file=$scratch/classes" \
    one_image_set "$scratch/demo" >"$scratch/log" 2>&1
  classes=$(from_archive "$scratch/classes")
  if [[ $classes -eq 0 ]]; then
    die 70 "CellProfiler's JVM does not use $archive"
  fi
  say "CellProfiler takes $classes classes from $archive"
  # bpcp-boot and login shells; a JVM that was updated since passes the archive by
  cat >/etc/profile.d/bpcp.sh <<END
# CellProfiler's JVM maps its classes from here instead of loading them one by one
export JAVA_TOOL_OPTIONS="-XX:SharedArchiveFile=$archive\${JAVA_TOOL_OPTIONS:+ \$JAVA_TOOL_OPTIONS}"
END
}

main "$@"
