#!/usr/bin/env bash
# Tests CellProfiler's environment on each Python that has a lock and is on this
# machine, beside the one that is installed: every module works in every mode,
# and scikit-image gives the values of the version that CellProfiler declares.
set -euo pipefail

top=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
export BPCP_VENV=${BPCP_VENV:-$top/.venv}
# shellcheck source=bin/lib/common.bash
source "$top/bin/lib/common.bash"
# shellcheck source=ami_setup/python.bash
source "$top/ami_setup/python.bash"

# lock_works MINOR -- makes an environment of Python MINOR, unless it is there, and tests it
lock_works() {
  local found venv=$BPCP_VENV/locks/py$1
  if ! found=$(find_python "$1" 'venv headers' "python$1"); then
    printf 'skip     Python %s: not on this machine\n' "$1"
    return
  fi
  mkdir -p -- "$venv"
  ln -sfn -- "$BPCP_VENV/bpcp" "$venv/bpcp"
  MAKELEVEL=1 "$top/ami_setup/install.sh" --python "$(head -n 1 <<<"$found")" --venv "$venv"
  "$BPCP_VENV/bpcp/bin/python" -c '
import json, sys
broken = json.load(open(sys.argv[1]))["broken"]
sys.exit("\n".join(map(str, broken)) or 0)
' "$venv/cellprofiler/bpcp-probe.json"
  env BPCP_VENV="$venv" "$BPCP_VENV/bpcp/bin/python" -m pytest -q "$top/tests/e2e/test_skimage.py"
}

main() {
  local minor installed
  installed=$("$BPCP_VENV/cellprofiler/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  for minor in 3.9 3.10 3.11; do
    if [[ $minor != "$installed" ]]; then
      lock_works "$minor"
    fi
  done
}

main "$@"
