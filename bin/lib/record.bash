#!/bin/bash
# record.bash EVENTS [VERBOSE] -- writes down what comes in as events, and shows it where VERBOSE is
# not empty. A program of its own: so it carries the run's mark, and is ended with the run.
set -euo pipefail

# what a terminal sends to all is not for it: GNU parallel would write to nobody, and die
trap '' INT TERM HUP
if [[ -n ${2:-} ]]; then
  # -p: whoever reads what is shown may be gone
  tee -ap -- "$1" >&2
else
  # a full disk must not end GNU parallel: what comes is read, also where it can't be written down
  until cat >>"$1"; do
    sleep 1
  done
fi
