#!/usr/bin/env bash
# bpcp and CellProfiler, for every user: install.sh, links on PATH, the account that runs use,
# and the service that runs a dataset from boot to shutdown.
set -euo pipefail

here=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/.." && pwd)
# shellcheck source=bin/lib/common.bash
source "$here/../bin/lib/common.bash"

main() {
  local command
  "$here/install.sh"
  for command in bin/bpcp run_analysis_pipeline.sh run_batchfile_pipeline.sh; do
    if [[ -e $BPCP_ROOT/$command ]]; then
      ln -sfn -- "$BPCP_ROOT/$command" "/usr/local/bin/${command##*/}"
    fi
  done
  if ! type -P aws >/dev/null; then
    ln -sfn -- "$BPCP_VENV/bpcp/bin/aws" /usr/local/bin/aws
  fi
  ln -sfn -- "$here/boot/bpcp-boot.sh" /usr/local/sbin/bpcp-boot
  install -D -m 644 -- "$here/boot/bpcp-boot.service" /etc/systemd/system/bpcp-boot.service
  if ! id -u bpcp >/dev/null 2>&1; then
    useradd --create-home --shell /bin/bash bpcp
  fi
  # users read and run it, and only root changes it
  chown -R root:root -- "$BPCP_ROOT"
  chmod -R a+rX,go-w -- "$BPCP_ROOT"
}

main "$@"
