# What the bash commands share: where things are, help from a file's header,
# messages, and the way into the Python package. Sourced, never run.

# a program that opens a file must not find it where its output goes
[[ -e /proc/self/fd/0 ]] || exec </dev/null
[[ -e /proc/self/fd/1 ]] || exec >/dev/null
[[ -e /proc/self/fd/2 ]] || exec 2>/dev/null

BPCP_ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
BPCP_VENV=${BPCP_VENV:-$BPCP_ROOT/.venv}
export BPCP_ROOT BPCP_VENV

# header FILE -- prints FILE's header comment without its marks
header() {
  sed -n '2,${/^#/!q; s/^# \{0,1\}//; p}' "$1"
}

# print_help FILE -- prints FILE's header comment as its help
print_help() {
  header "$1" | sed '1s/^Summary: //'
}

# summary_of FILE -- prints the line of FILE's header that says what it is for
summary_of() {
  header "$1" | sed -n '1s/^Summary: //p'
}

# wants_help ARG... -- succeeds where --help stands among the arguments, before any --
wants_help() {
  local arg
  for arg in "$@"; do
    case $arg in
      -h | --help) return 0 ;;
      --) return 1 ;;
    esac
  done
  return 1
}

# bpcp_version -- prints the version of this checkout
bpcp_version() {
  sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$BPCP_ROOT/bpcp/__init__.py"
}

# say TEXT... -- prints a line for people, on stderr; that nobody reads it, or it can't be written,
# ends nothing
say() {
  trap : PIPE
  printf '%s\n' "$*" >&2 2>/dev/null || exec 2>/dev/null
}

# die CODE WHAT [TODO] -- says what is wrong and what to do next, and exits with CODE
die() {
  say "${BPCP_NAME:-$(basename -- "$0" | sed 's/^bpcp-/bpcp /')}: $2"
  [[ -z ${3:-} ]] || say "  → $3"
  exit "$1"
}

# need_value OPTION [VALUE] -- refuses OPTION where no value, or an empty one, stands behind it
need_value() {
  if [[ -z ${2:-} ]]; then
    die 64 "$1 needs a value" "$(basename -- "$0") --help"
  fi
}

# run_python MODULE [ARG...] -- becomes bpcp's own Python, running a module of the package
run_python() {
  local python=$BPCP_VENV/bpcp/bin/python
  if [[ ! -x $python ]]; then
    die 69 "bpcp is not installed: $BPCP_VENV/bpcp is missing" "$BPCP_ROOT/ami_setup/install.sh"
  fi
  # isolated: neither the folder that the user stands in nor PYTHONPATH may shadow a module
  exec "$python" -I -c 'import runpy, sys
sys.path.insert(0, sys.argv.pop(1))
sys.argv[0] = sys.argv.pop(1)
try:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
except KeyboardInterrupt:
    sys.exit(130)' "$BPCP_ROOT" "$@"
}

# python_command FILE MODULE ARG... -- the body of a command that is a Python module: help, or run
python_command() {
  local file=$1 module=$2
  shift 2
  if wants_help "$@"; then
    print_help "$file"
    exit 0
  fi
  run_python "$module" "$@"
}
