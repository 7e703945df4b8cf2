# Finding Pythons that really work. Sourced by install.sh and relock.sh, after bin/lib/common.bash.

# probe_python EXE -- prints `MAJOR.MINOR FULL-VERSION` and what EXE lacks to make environments that
# compile extensions (venv, headers, compiler); where it does not run, says so and fails
probe_python() {
  local answer
  # a pyenv shim exists and fails: only running it tells
  answer=$(timeout 30 "$1" -I -c '
import os, shutil, sys, sysconfig
want = []
try:
    import ensurepip, venv
except ImportError:
    want.append("venv")
if not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")):
    want.append("headers")
if not shutil.which((os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]):
    want.append("compiler")
print("%d.%d" % sys.version_info[:2], "%d.%d.%d" % sys.version_info[:3], *want)
' 2>/dev/null </dev/null) || {
    printf 'does not run\n'
    return 1
  }
  local minor version want
  read -r minor version want <<<"$answer"
  if [[ ! $minor =~ ^[0-9]+\.[0-9]+$ ]]; then
    printf 'does not answer as Python does\n'
    return 1
  fi
  printf '%s %s %s\n' "$minor" "$version" "$want"
}

# places_of NAME -- prints every file that NAME may mean, one a line: those on PATH and, for
# pythonX.Y, those that pyenv and uv keep, whose commands on PATH may not run or may be missing
places_of() {
  local minor=${1#python} exe root roots=()
  # every place on PATH: a broken shim may stand before a working system Python
  while IFS= read -r exe; do
    printf '%s\n' "$exe"
    if [[ $exe == */shims/"$1" ]]; then
      roots+=("${exe%/shims/*}")
    fi
  done < <(type -aP -- "$1")
  if [[ ! $minor =~ ^3\.[0-9]+$ ]]; then
    return
  fi
  if root=${PYENV_ROOT:-$(pyenv root 2>/dev/null)}; then
    roots+=("$root")
  fi
  for root in "${roots[@]}"; do
    # the newest first
    compgen -G "$root/versions/$minor.*/bin/$1" | sort -rV || true
  done
  # those of its own, never one of a project or an environment that the caller is in
  (cd / && UV_PYTHON_DOWNLOADS=never UV_PYTHON_PREFERENCE=only-managed uv python find "$minor" 2>/dev/null) || true
}

# find_python ACCEPT NEEDS NAME... -- prints `EXE MINOR VERSION` on three lines, for the first NAME
# that runs, whose MINOR is a word of ACCEPT and that lacks no word of NEEDS; says which it passes by
find_python() {
  local accept=$1 needs=$2 name exe found minor version wants need lacking seen=' '
  shift 2
  for name in "$@"; do
    while IFS= read -r exe; do
      [[ $seen == *" $exe "* ]] && continue
      seen+="$exe "
      if ! found=$(probe_python "$exe"); then
        say "skip     $exe: $found"
        continue
      fi
      read -r minor version wants <<<"$found"
      if [[ " $accept " != *" $minor "* ]]; then
        say "skip     $exe: Python $version, of use here: $accept"
        continue
      fi
      lacking=
      for need in $needs; do
        [[ " $wants " == *" $need "* ]] && lacking+=" $need"
      done
      if [[ -n $lacking ]]; then
        say "skip     $exe: Python $version without$lacking (python$minor-venv, python$minor-dev)"
        continue
      fi
      printf '%s\n' "$exe" "$minor" "$version"
      return
    done < <(places_of "$name")
  done
  return 1
}
