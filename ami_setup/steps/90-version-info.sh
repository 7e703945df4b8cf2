#!/usr/bin/env bash
# Writes version-info.json: what is in the image, with versions and checksums.
set -euo pipefail

here=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/.." && pwd)
# shellcheck source=bin/lib/common.bash
source "$here/../bin/lib/common.bash"

main() {
  # what was looked at already must stay clean: a JVM leaves a file in /tmp, others a cache at home
  export JAVA_TOOL_OPTIONS=-XX:-UsePerfData
  HOME=$(mktemp -d)
  export HOME
  trap 'rm -rf -- "$HOME"' EXIT
  local file=$BPCP_ROOT/version-info.json
  "$BPCP_VENV/bpcp/bin/python" -I -B "$here/version_info.py" --commit "$BPCP_IMAGE_COMMIT" \
    --base "$BPCP_IMAGE_BASE" "$BPCP_ROOT" "$BPCP_VENV" >"$file.new"
  chmod 644 -- "$file.new"
  mv -f -- "$file.new" "$file"
  sync
  say "wrote $file"
}

main "$@"
