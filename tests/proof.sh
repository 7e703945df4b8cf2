#!/usr/bin/env bash
# Proves that the tests can fail: in a copy of this checkout whose tests are
# replaced by one that passes, each target of the Makefile must pass, and with
# one that fails, fail.
set -euo pipefail

top=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
export BPCP_VENV=${BPCP_VENV:-$top/.venv}
failures=0

# long_test MARK VALUE -- prints a test that passes where VALUE is 1
long_test() {
  printf "import pytest\n\n\n@pytest.mark.$1\ndef test_planted() -> None:\n    assert 2 - 1 == %s\n" "$2"
}

# plant VALUE [ALONE] -- puts one test into each suite; it passes where VALUE is 1, and the one that
# runs alone where ALONE is
plant() {
  mkdir -p tests/unit tests/e2e tests/bats
  # shellcheck disable=SC2016 # for the planted test to expand
  printf '@test "planted" {\n  [ "$((2 - 1))" -eq %s ]\n}\n' "$1" >tests/bats/planted.bats
  local suite
  for suite in unit e2e; do
    printf 'def test_planted() -> None:\n    assert 2 - 1 == %s\n' "$1" >"tests/$suite/test_planted.py"
  done
  long_test long "$1" >tests/e2e/test_long.py
  long_test 'long\n@pytest.mark.alone' "${2:-$1}" >tests/e2e/test_alone.py
}

# expect WANTED TARGET -- says so where `make TARGET` does not end as WANTED: "passes" or "fails"
expect() {
  local found=fails
  if make --no-print-directory "$2" >"$scratch/output" 2>&1; then
    found=passes
  fi
  if [[ $found != "$1" ]]; then
    printf 'proof: make %s %s, but a planted test says that it %s\n' "$2" "$found" "$1" >&2
    tail -n 20 "$scratch/output" >&2
    failures=$((failures + 1))
  fi
}

main() {
  scratch=$(mktemp -d)
  trap 'rm -rf -- "$scratch"' EXIT
  cd -- "$top"
  mkdir "$scratch/copy"
  # what is here, not only what is committed; no test of its own
  tar --exclude=./.git --exclude=./.venv --exclude=./demo --exclude='./tests/*/*' -cf - . | tar -C "$scratch/copy" -xf -
  cd -- "$scratch/copy"
  local target
  plant 1
  for target in check unit bats e2e long; do
    expect passes "$target"
  done
  plant 1 2
  expect fails long
  plant 2
  for target in unit bats e2e long; do
    expect fails "$target"
  done
  printf 'import os\n' >bpcp/planted.py
  expect fails check
  rm bpcp/planted.py
  # shellcheck disable=SC2016 # it is the mistake that is planted
  printf 'echo $1\n' >>bin/bpcp
  expect fails check
  if [[ $failures -gt 0 ]]; then
    exit 1
  fi
  printf 'proof: a failing test, lint or type fails its target\n'
}

main "$@"
