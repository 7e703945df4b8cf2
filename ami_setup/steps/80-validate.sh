#!/usr/bin/env bash
# Looks whether the image is whole and clean.
set -euo pipefail

exec "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/../validate.sh" --image
