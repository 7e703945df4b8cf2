#!/usr/bin/env bash
# Summary: look whether a machine made from the bpcp image works, or whether an image is clean
#
# Usage: ami_setup/validate.sh [--image [--root DIR]]
#
# Without options: does everything that a run needs work, for an ordinary user? bpcp doctor finds
# nothing missing, CellProfiler answers its version, and one image set of the demo is drawn,
# analysed and counted. Run as root, it does so as nobody. About 15 seconds, anywhere bpcp is
# installed, at any time.
#
#   --image     also what holds only before the first boot: no key, host key, password, history,
#               log, cache or machine id; commands, service, account, byte-code and the JVM's
#               archive are in place; needs root
#   --root DIR  with --image: look only at the files, and at those of the image mounted at DIR
#   -h, --help  this text
#
# Exit status: 0 all well; 1 findings, each on a line that begins with FAIL; 64 wrong command line;
# 66 no such DIR; 77 --image without root.
#
# Example: sudo /opt/bpcp/ami_setup/validate.sh
set -euo pipefail

here=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd)
# shellcheck source=bin/lib/common.bash
source "$here/../bin/lib/common.bash"
# shellcheck source=ami_setup/image.bash
source "$here/image.bash"

image=false
root=''
checkout=$BPCP_ROOT
venv=$BPCP_VENV
findings=0

# ok NAME [TEXT] -- prints that NAME is well
ok() {
  printf 'ok    %s%s\n' "$1" "${2:+: $2}"
}

# bad NAME WHAT -- prints a finding
bad() {
  printf 'FAIL  %s: %s\n' "$1" "$2"
  findings=$((findings + 1))
}

# parse_options ARG... -- reads the command line into the variables above
parse_options() {
  while [[ $# -gt 0 ]]; do
    case $1 in
      --image) image=true ;;
      --root)
        need_value "$1" "${@:2:1}"
        root=$2
        shift
        ;;
      -h | --help)
        print_help "${BASH_SOURCE[0]}"
        exit 0
        ;;
      *) die 64 "unknown option: $1" "ami_setup/validate.sh --help" ;;
    esac
    shift
  done
  if [[ -z $root ]]; then
    return
  fi
  if ! $image; then
    die 64 "--root goes with --image" "ami_setup/validate.sh --help"
  fi
  if [[ ! -d $root/etc ]]; then
    die 66 "no system in $root: it has no etc/"
  fi
  checkout=$root/opt/bpcp
  venv=$checkout/.venv
}

# --- does it work? ----------------------------------------------------------------------------

# as_user COMMAND... -- runs COMMAND as an ordinary user in a login shell, in a home of its own
as_user() {
  local user=(env)
  if [[ $(id -u) -eq 0 ]]; then
    user=(setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs env)
  fi
  # a JVM leaves a file in /tmp, whatever TMPDIR says
  # shellcheck disable=SC2016 # for the login shell to expand
  (cd -- "$scratch" && "${user[@]}" -i HOME="$scratch" TMPDIR="$scratch" LANG=C.UTF-8 BPCP_VENV="$venv" \
    JAVA_TOOL_OPTIONS=-XX:-UsePerfData PATH="$PATH" bash -lc '"$@"' -- "$@" </dev/null)
}

# check_doctor -- nothing that a run needs is missing
check_doctor() {
  local answer
  if answer=$(as_user "$checkout/bin/bpcp" doctor "$scratch" 2>&1); then
    ok doctor
  else
    bad doctor "$(grep -A 1 FAIL <<<"$answer" || tail -n 3 <<<"$answer")"
  fi
}

# check_cellprofiler -- CellProfiler answers its version
check_cellprofiler() {
  local answer
  if answer=$(as_user "$checkout/bin/bpcp" cellprofiler --version 2>"$scratch/error") &&
    answer=$(grep -E -m 1 '^[0-9]+[.]' <<<"$answer"); then
    ok cellprofiler "$answer"
  else
    bad cellprofiler "does not answer its version: $(tail -n 3 -- "$scratch/error")"
  fi
}

# check_demo -- the demo is drawn, analysed and counted
check_demo() {
  local answer
  if answer=$({
    as_user "$checkout/bin/bpcp" demo --wells 1 --sites 2 "$scratch/demo" &&
      as_user "$checkout/run_analysis_pipeline.sh" -d demo -p "$scratch/demo/pipelines/demo.cppipe" -P 1 &&
      as_user "$checkout/bin/bpcp" demo --check "$scratch/demo"
  } 2>&1); then
    ok demo "$(tail -n 1 <<<"$answer")"
  else
    bad demo "$(tail -n 5 <<<"$answer")"
  fi
}

# --- is the image clean? ----------------------------------------------------------------------

# check_leftovers -- nothing that ami_setup/image.bash lists is there
check_leftovers() {
  local kind path before=$findings
  while IFS= read -r -d '' kind && IFS= read -r -d '' path; do
    bad "$kind" "$(printf '%q' "${path#"$root"}") must not be in an image"
  done < <(leftovers "$root" "$checkout")
  [[ $findings -gt $before ]] || ok leftovers
}

# check_machine_id -- each copy will be given an id of its own
check_machine_id() {
  if [[ -f $root/etc/machine-id && ! -s $root/etc/machine-id ]]; then
    ok machine-id
  else
    bad machine-id "/etc/machine-id must be there, and empty"
  fi
}

# check_passwords -- no password, and no empty one, opens an account
check_passwords() {
  local account before=$findings
  while IFS= read -r account; do
    bad password "the account $account is not locked"
  done < <(open_accounts "$root")
  [[ $findings -gt $before ]] || ok passwords
}

# check_secrets -- no text that only a key or a credential holds, wherever it may have been put
check_secrets() {
  local path before=$findings folders=() folder
  for folder in etc home opt/bpcp/version-info.json root srv usr/local/etc; do
    [[ -e $root/$folder ]] && folders+=("$root/$folder")
  done
  # grep ends with 1 where it finds none, which is good; this runs as root, who can read all
  while IFS= read -r -d '' path; do
    bad secret "$(printf '%q' "${path#"$root"}") holds a key or a credential"
  done < <(grep -rIlZsE -e '-----BEGIN [A-Z ]*PRIVATE KEY-----|\b(AKIA|ASIA)[0-9A-Z]{16}\b|aws_secret_access_key *=' \
    -- "${folders[@]}" || true)
  [[ $findings -gt $before ]] || ok secrets
}

# check_owner -- only root can change what all users run
check_owner() {
  local path before=$findings
  while IFS= read -r path; do
    bad owner "$path can be changed by others than root"
  done < <(find "$checkout" ! -type l \( -perm /022 -o ! -uid 0 \) -printf '%p\n' | head -n 5)
  [[ $findings -gt $before ]] || ok owner
}

# check_parts -- the commands, the service, the account, byte-code, the JVM's archive and the layer for
# scikit-image are there
check_parts() {
  local before=$findings link file module site
  while read -r link file; do
    # a link in an image that is mounted elsewhere leads nowhere here
    if [[ $(readlink -- "$root/usr/local/$link") != */"$file" || ! -x $checkout/$file ]]; then
      bad command "/usr/local/$link does not start $file"
    fi
  done <<'END'
bin/bpcp bin/bpcp
bin/run_analysis_pipeline.sh run_analysis_pipeline.sh
sbin/bpcp-boot ami_setup/boot/bpcp-boot.sh
END
  [[ -s $root/etc/systemd/system/bpcp-boot.service ]] || bad service "bpcp-boot.service is missing"
  grep -q '^bpcp:' "$root/etc/passwd" || bad account "there is no account bpcp"
  [[ -s $venv/cellprofiler.jsa && -s $root/etc/profile.d/bpcp.sh ]] ||
    bad archive "the JVM's archive of classes is missing"
  site=$(compgen -G "$venv/cellprofiler/lib/python3.*/site-packages" | head -n 1)
  [[ -s $site/bpcp_skimage.pth && -s $site/bpcp_skimage.py &&
    $(<"$site/bpcp_skimage.py") == "$(<"$checkout/ami_setup/bpcp_skimage.py")" ]] ||
    bad layer "CellProfiler's environment lacks this checkout's layer for scikit-image"
  for module in "$checkout"/bpcp/*.py; do
    module=${module##*/}
    compgen -G "$checkout/bpcp/__pycache__/${module%.py}.cpython-*.pyc" >/dev/null ||
      bad byte-code "bpcp/$module is not compiled, and its users can't"
  done
  [[ $findings -gt $before ]] || ok parts
}

main() {
  parse_options "$@"
  if $image && [[ -z $root && $(id -u) -ne 0 ]]; then
    die 77 "only root can look into every home" "sudo ami_setup/validate.sh --image"
  fi
  if [[ -z $root ]]; then
    scratch=$(mktemp -d)
    trap 'rm -rf -- "$scratch"' EXIT
    chmod 777 -- "$scratch"
    check_doctor
    check_cellprofiler
    check_demo
    # the last check is that nothing is left in /tmp
    rm -rf -- "$scratch"
  fi
  if $image; then
    check_leftovers
    check_machine_id
    check_passwords
    check_secrets
    check_owner
    check_parts
  fi
  if [[ $findings -gt 0 ]]; then
    printf 'findings: %s\n' "$findings"
    exit 1
  fi
}

main "$@"
