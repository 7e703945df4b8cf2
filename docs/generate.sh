#!/usr/bin/env bash
# Writes docs/commands.md from the commands' own help; `generate.sh -` prints it.
set -euo pipefail

top=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)

# page -- prints the page
page() {
  local file name
  printf '# Commands\n\nMade from the commands'\'' own help by docs/generate.sh; change it there.\n'
  for file in run_analysis_pipeline.sh run_batchfile_pipeline.sh bin/bpcp bin/bpcp-* ami_setup/{install,bake,build,validate}.sh ami_setup/boot/bpcp-boot.sh; do
    name=${file#bin/}
    [[ $file == bin/bpcp-* ]] && name="bpcp ${file#bin/bpcp-}"
    printf '\n## %s\n\n```text\n' "$name"
    sed -n '2,${/^#/!q; s/^# \{0,1\}//; s/^Summary: //; p}' "$file"
    printf '```\n'
  done
}

main() {
  cd -- "$top"
  if [[ ${1:-} == - ]]; then
    page
  else
    page >docs/commands.md
  fi
}

main "$@"
