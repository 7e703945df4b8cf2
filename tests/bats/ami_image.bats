#!/usr/bin/env bats
# The steps of an image build, and the validator: in folders that look like a machine, and with
# fakes where a tool would be asked. tests/ami/pristine.sh runs all of it for real.
# shellcheck disable=SC2016,SC2030,SC2031 # fakes are quoted scripts; each test is a subshell of its own

setup() {
  bats_require_minimum_version 1.5.0
  export BATS_LIB_PATH=${BATS_LIB_PATH:-/usr/lib/bats}
  load "$BATS_LIB_PATH/bats-support/load"
  load "$BATS_LIB_PATH/bats-assert/load"
  root=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
  export HOME=$BATS_TEST_TMPDIR/home TMPDIR=$BATS_TEST_TMPDIR/tmp
  mkdir -p "$HOME" "$TMPDIR"
  unset BPCP_VENV BPCP_STEPS BPCP_IMAGE_BUILD BPCP_IMAGE_ROOT JAVA_TOOL_OPTIONS
  machine="$BATS_TEST_TMPDIR/a machine; é"
}

# make_machine -- a folder that looks like a clean image
make_machine() {
  [[ $(id -u) -eq 0 ]] || skip 'NOT TESTED: only root can make files that are root'"'"'s'
  mkdir -p "$machine"/{etc/skel,etc/ssh,etc/profile.d,etc/systemd/system,home/ann,root,tmp,var/tmp} \
    "$machine"/usr/local/{bin,sbin} "$machine"/var/{cache/apt/archives,lib/apt/lists,lib/cloud,log/apt} \
    "$machine"/opt/bpcp/{bin,bpcp/__pycache__,.venv,ami_setup/boot}
  printf 'root:x:0:0::/root:/bin/bash\nann:x:1000:1000::/home/ann:/bin/bash\nbpcp:x:999:999::/home/bpcp:/bin/bash\n' \
    >"$machine/etc/passwd"
  printf 'root:*:1::::::\nann:!:1::::::\nbpcp:!*:1::::::\n' >"$machine/etc/shadow"
  : >"$machine/etc/machine-id"
  local name
  for name in bin/bpcp run_analysis_pipeline.sh ami_setup/boot/bpcp-boot.sh; do
    printf '#!/bin/sh\n' >"$machine/opt/bpcp/$name"
    chmod +x "$machine/opt/bpcp/$name"
  done
  ln -s /opt/bpcp/bin/bpcp "$machine/usr/local/bin/bpcp"
  ln -s /opt/bpcp/run_analysis_pipeline.sh "$machine/usr/local/bin/"
  ln -s /opt/bpcp/ami_setup/boot/bpcp-boot.sh "$machine/usr/local/sbin/bpcp-boot"
  for name in etc/systemd/system/bpcp-boot.service etc/profile.d/bpcp.sh opt/bpcp/.venv/cellprofiler.jsa; do
    printf 'x\n' >"$machine/$name"
  done
  local site=$machine/opt/bpcp/.venv/cellprofiler/lib/python3.11/site-packages
  mkdir -p "$site"
  printf 'import bpcp_skimage\n' >"$site/bpcp_skimage.pth"
  printf 'layer\n' | tee "$site/bpcp_skimage.py" >"$machine/opt/bpcp/ami_setup/bpcp_skimage.py"
  : >"$machine/opt/bpcp/bpcp/plan.py"
  : >"$machine/opt/bpcp/bpcp/__pycache__/plan.cpython-311.pyc"
  chmod -R go-w "$machine"
}

# validate -- the validator over that folder
validate() {
  "$root/ami_setup/validate.sh" --image --root "$machine"
}

# soil -- leaves in the folder what people and machines leave, one of each kind
soil() {
  mkdir -p "$machine"/home/ann/{.ssh,.aws,.config/gh,.cache} "$machine"/var/lib/{cloud/instances,dbus,dhcp} \
    "$machine"/{root,etc/skel}/.ssh "$machine/var/log/journal" "$machine/opt/bpcp/.git" "$machine/tmp/systemd-private-x"
  local path
  while IFS= read -r path; do
    printf 'x\n' >"$machine/$path"
  done <<'END'
home/ann/.ssh/authorized_keys
home/ann/.ssh/id_ed25519
root/.ssh/known_hosts
etc/skel/.ssh/config
home/ann/.bash_history
home/ann/.python_history
root/.lesshst
root/.viminfo
home/ann/.aws/credentials
home/ann/.netrc
home/ann/.git-credentials
home/ann/.config/gh/hosts.yml
home/ann/.cache/x
etc/ssh/ssh_host_ed25519_key
etc/ssh/ssh_host_ed25519_key.pub
var/lib/cloud/data
var/lib/cloud/instances/i-0
var/lib/dbus/machine-id
var/lib/dhcp/dhclient.eth0.leases
var/log/syslog
var/log/apt/history.log
var/log/journal/system.journal
tmp/a file
var/tmp/.hidden
var/cache/apt/archives/parallel.deb
var/cache/apt/pkgcache.bin
var/lib/apt/lists/lock
opt/bpcp/.git/config
END
  ln -s nowhere "$machine/tmp/dangling"
  printf 'root:$y$hash:1::::::\nann::1::::::\nbpcp:!*:1::::::\n' >"$machine/etc/shadow"
  : >"$machine/etc/shadow-"
  printf '0123\n' >"$machine/etc/machine-id"
}

# clean -- the clean step over that folder
clean() {
  BPCP_IMAGE_BUILD=1 BPCP_IMAGE_ROOT=$machine "$root/ami_setup/steps/70-clean.sh"
}

@test "validate: help, wrong words, no such folder, not root" {
  local validate=$root/ami_setup/validate.sh
  run "$validate" --help
  assert_success
  run -64 "$validate" --nonsense
  run -64 "$validate" --root
  run -64 "$validate" --root /tmp
  assert_output --partial 'goes with --image'
  run -66 "$validate" --image --root "$BATS_TEST_TMPDIR/none"
  mkdir "$BATS_TEST_TMPDIR/bin"
  printf '#!/bin/sh\necho 1000\n' >"$BATS_TEST_TMPDIR/bin/id"
  chmod +x "$BATS_TEST_TMPDIR/bin/id"
  PATH=$BATS_TEST_TMPDIR/bin:$PATH run -77 "$validate" --image
}

@test "validate: a clean image is well" {
  make_machine
  run validate
  assert_success
  refute_output --partial FAIL
  local what
  for what in leftovers machine-id passwords secrets parts; do
    assert_line "ok    $what"
  done
}

@test "validate: names each leftover of people and machines; clean takes all of them, and nothing else" {
  make_machine
  printf 'keep\n' >"$machine/home/ann/.bashrc"
  soil
  run validate
  assert_failure 1
  local path
  for path in home/ann/.ssh/authorized_keys home/ann/.ssh/id_ed25519 root/.ssh/known_hosts etc/skel/.ssh/config \
    etc/ssh/ssh_host_ed25519_key etc/ssh/ssh_host_ed25519_key.pub home/ann/.bash_history home/ann/.python_history \
    root/.lesshst root/.viminfo home/ann/.aws home/ann/.netrc home/ann/.git-credentials home/ann/.config/gh \
    home/ann/.cache var/lib/cloud/data var/lib/cloud/instances var/lib/dbus/machine-id \
    var/lib/dhcp/dhclient.eth0.leases var/log/syslog var/log/apt/history.log var/log/journal/system.journal \
    var/tmp/.hidden 'tmp/a\ file' tmp/dangling var/cache/apt/archives/parallel.deb var/cache/apt/pkgcache.bin \
    var/lib/apt/lists/lock opt/bpcp/.git; do
    assert_line --regexp "^FAIL  [a-z-]+: /${path//[\\.]/.} must not be in an image$"
  done
  assert_line 'FAIL  password: the account root is not locked'
  assert_line 'FAIL  password: the account ann is not locked'
  assert_line 'FAIL  machine-id: /etc/machine-id must be there, and empty'
  refute_output --partial systemd-private

  run clean
  assert_success
  run validate
  assert_success
  assert [ ! -e "$machine/etc/shadow-" ]
  assert [ -e "$machine/tmp/systemd-private-x" ]
  assert [ -d "$machine/var/log/apt" ]
  run cat "$machine/home/ann/.bashrc" "$machine/etc/shadow"
  assert_output $'keep\nroot:!*:1::::::\nann:!*:1::::::\nbpcp:!*:1::::::'
}

@test "validate: a key or a credential is found wherever it was put" {
  make_machine
  printf -- '-----BEGIN OPENSSH %s KEY-----\n' PRIVATE >"$machine/etc/a.pem"
  printf 'export KEY=%s%s\n' AKIA 0123456789ABCDEF >"$machine/home/ann/.profile"
  printf '%s_access_key = x\n' aws_secret >"$machine/root/notes"
  run validate
  assert_failure 1
  assert_line 'FAIL  secret: /etc/a.pem holds a key or a credential'
  assert_line 'FAIL  secret: /home/ann/.profile holds a key or a credential'
  assert_line 'FAIL  secret: /root/notes holds a key or a credential'
  assert_line 'findings: 3'
}

@test "validate: each part that is missing is named" {
  make_machine
  rm "$machine"/usr/local/bin/bpcp "$machine"/etc/systemd/system/bpcp-boot.service \
    "$machine"/opt/bpcp/.venv/cellprofiler.jsa "$machine"/opt/bpcp/bpcp/__pycache__/plan.cpython-311.pyc
  ln -sf /elsewhere "$machine/usr/local/bin/run_analysis_pipeline.sh"
  chmod -x "$machine/opt/bpcp/ami_setup/boot/bpcp-boot.sh"
  sed -i '/^bpcp/d' "$machine/etc/passwd"
  printf 'older\n' >"$machine/opt/bpcp/.venv/cellprofiler/lib/python3.11/site-packages/bpcp_skimage.py"
  run validate
  assert_failure 1
  assert_line "FAIL  layer: CellProfiler's environment lacks this checkout's layer for scikit-image"
  assert_line 'FAIL  command: /usr/local/bin/bpcp does not start bin/bpcp'
  assert_line 'FAIL  command: /usr/local/bin/run_analysis_pipeline.sh does not start run_analysis_pipeline.sh'
  assert_line 'FAIL  command: /usr/local/sbin/bpcp-boot does not start ami_setup/boot/bpcp-boot.sh'
  assert_line "FAIL  service: bpcp-boot.service is missing"
  assert_line 'FAIL  account: there is no account bpcp'
  assert_line "FAIL  archive: the JVM's archive of classes is missing"
  assert_line "FAIL  byte-code: bpcp/plan.py is not compiled, and its users can't"
}

@test "validate: what others than root can change is named" {
  make_machine
  chmod o+w "$machine/opt/bpcp/bpcp/plan.py"
  run validate
  assert_failure 1
  assert_line --partial 'FAIL  owner: '
  assert_line --partial 'bpcp/plan.py can be changed by others than root'
  chmod o-w "$machine/opt/bpcp/bpcp/plan.py"
  run validate
  assert_success
  chown 1000 "$machine/opt/bpcp/bin/bpcp"
  run validate
  assert_failure 1
}

# make_checkout DOCTOR VERSION RUN -- a checkout whose commands are these scripts
make_checkout() {
  checkout=$BATS_TEST_TMPDIR/checkout
  mkdir -p "$checkout/bin/lib"
  cp -R "$root/ami_setup" "$checkout/"
  cp "$root/bin/lib/common.bash" "$checkout/bin/lib/"
  printf '#!/bin/bash\ncase $1 in doctor) %s ;; cellprofiler) %s ;; esac\n' "$1" "$2" >"$checkout/bin/bpcp"
  printf '#!/bin/bash\n%s\n' "$3" >"$checkout/run_analysis_pipeline.sh"
  chmod +x "$checkout/bin/bpcp" "$checkout/run_analysis_pipeline.sh"
  # nobody reads it, too
  chmod -R a+rX "$BATS_TEST_TMPDIR" "${BATS_TEST_TMPDIR%/*}" "${BATS_RUN_TMPDIR:?}"
  chmod 777 "$TMPDIR"
}

@test "validate: a tool that is missing, a CellProfiler that does not answer, a run that fails" {
  make_checkout 'echo "ok x"; echo "FAIL java: none"; echo "  install it"; exit 69' 'echo "no libjvm" >&2; exit 1' \
    'echo "no such module" >&2; exit 1'
  run "$checkout/ami_setup/validate.sh"
  assert_failure 1
  assert_output --partial 'FAIL  doctor: FAIL java: none'
  assert_output --partial 'FAIL  cellprofiler: does not answer its version: no libjvm'
  assert_output --partial 'FAIL  demo: no such module'
  assert_line 'findings: 3'
  run find "$TMPDIR" -mindepth 1
  assert_output ''
}

@test "validate: an answer that is no version is none" {
  make_checkout true 'echo Traceback' true
  run "$checkout/ami_setup/validate.sh"
  assert_failure 1
  assert_output --partial 'FAIL  cellprofiler'
  make_checkout true 'echo warning; echo 4.2.8.1' true
  run "$checkout/ami_setup/validate.sh"
  assert_success
  assert_line 'ok    cellprofiler: 4.2.8.1'
}

@test "validate: as root it looks as an ordinary user" {
  [[ $(id -u) -eq 0 ]] || skip 'this is not root'
  make_checkout '[[ $(id -u) -ne 0 && $HOME != /root ]]' 'echo 1.0' true
  run "$checkout/ami_setup/validate.sh"
  assert_success
}

@test "build: nothing happens to a machine that is not said to be the one, nor without root" {
  run "$root/ami_setup/build.sh" --help
  assert_success
  run -64 "$root/ami_setup/build.sh"
  assert_output --partial "$(uname -n)"
  run -64 "$root/ami_setup/build.sh" --nonsense
  run -64 "$root/ami_setup/build.sh" --this-machine --commit
  mkdir "$BATS_TEST_TMPDIR/bin"
  printf '#!/bin/sh\necho 1000\n' >"$BATS_TEST_TMPDIR/bin/id"
  chmod +x "$BATS_TEST_TMPDIR/bin/id"
  PATH=$BATS_TEST_TMPDIR/bin:$PATH run -77 "$root/ami_setup/build.sh" --this-machine
}

@test "build: the clean step does not run by itself" {
  make_machine
  soil
  BPCP_IMAGE_ROOT=$machine run -64 "$root/ami_setup/steps/70-clean.sh"
  assert_output --partial 'build.sh'
  assert [ -e "$machine/home/ann/.ssh/id_ed25519" ]
}

@test "build: steps run in the order of their numbers, with the commit; the first that fails ends it" {
  mkdir "$BATS_TEST_TMPDIR/bin" "$BATS_TEST_TMPDIR/steps"
  printf '#!/bin/sh\necho 0\n' >"$BATS_TEST_TMPDIR/bin/id"
  export BPCP_STEPS=$BATS_TEST_TMPDIR/steps PATH=$BATS_TEST_TMPDIR/bin:$PATH
  local name
  for name in 20-b.sh 10-a.sh; do
    printf '#!/bin/sh\necho "$0 $BPCP_IMAGE_BUILD $BPCP_IMAGE_COMMIT $BPCP_IMAGE_BASE"\n' >"$BPCP_STEPS/$name"
  done
  printf '#!/bin/sh\nexit 42\n' >"$BPCP_STEPS/30-c.sh"
  printf '#!/bin/sh\necho too far\n' >"$BPCP_STEPS/40-d.sh"
  chmod +x "$BPCP_STEPS"/* "$BATS_TEST_TMPDIR/bin/id"
  run -42 "$root/ami_setup/build.sh" --this-machine --commit abc --base 'ami-1 debian'
  assert_line "$BPCP_STEPS/10-a.sh 1 abc ami-1 debian"
  assert_output --regexp '10-a.sh.*20-b.sh'
  assert_output --partial '30-c.sh failed with exit code 42: make no image of this machine'
  refute_output --partial 'too far'
  rm "$BPCP_STEPS"/30-c.sh
  run "$root/ami_setup/build.sh" --this-machine
  assert_success
  assert_line --partial 'validated'
}

@test "build: the steps are these, and each can be run" {
  run "$root/ami_setup/build.sh" --list
  assert_success
  assert_output '10-system.sh
20-install.sh
30-warm.sh
70-clean.sh
80-validate.sh
90-version-info.sh'
  local step
  while IFS= read -r step; do
    assert [ -x "$root/ami_setup/steps/$step" ]
  done <<<"$output"
}

@test "install --dev: asks for packer and cloud-init where they are offered; cloud-init stays off" {
  local fakes=$BATS_TEST_TMPDIR/fakes
  mkdir "$fakes"
  export CALLS=$BATS_TEST_TMPDIR/calls
  fake() {
    printf '#!/bin/bash\n%s\n' "$2" >"$fakes/$1"
    chmod +x "$fakes/$1"
  }
  fake dpkg-query '[[ " ${MISSING:-} " == *" ${*: -1} "* ]] && exit 1; printf installed'
  fake apt-cache '[[ " ${OFFERED:-} " == *" $2 "* ]] && echo "Package: $2"'
  fake apt-get 'exit 100'
  fake id 'echo "${FAKE_UID:-0}"'
  fake sudo 'exit 1'
  fake install 'printf "install %s\n" "$*" >>"$CALLS"'
  fake java true
  fake javac true
  # everything after the packages is for install.bats
  export PATH=$fakes:$PATH MISSING='packer cloud-init' OFFERED='packer cloud-init'
  sed 's/^  logged "${apt\[@\]}" update$/  :/; s/^    install_packages$/&; exit/' "$root/ami_setup/install.sh" >"$BATS_TEST_TMPDIR/install.sh"
  mkdir -p "$BATS_TEST_TMPDIR/top/bin/lib"
  cp -R "$root/ami_setup" "$BATS_TEST_TMPDIR/top/"
  cp "$root/bin/lib/common.bash" "$BATS_TEST_TMPDIR/top/bin/lib/"
  mv "$BATS_TEST_TMPDIR/install.sh" "$BATS_TEST_TMPDIR/top/ami_setup/install.sh"
  chmod +x "$BATS_TEST_TMPDIR/top/ami_setup/install.sh"
  local install=("$BATS_TEST_TMPDIR/top/ami_setup/install.sh" --dev --venv "$BATS_TEST_TMPDIR/venv")

  run -69 "${install[@]}"
  assert_output --partial 'install  system packages: cloud-init packer'
  run cat "$CALLS"
  assert_output 'install -D -m 644 /dev/null /etc/cloud/cloud-init.disabled'
  rm "$CALLS"
  OFFERED=packer run -69 "${install[@]}"
  assert_output --partial 'install  system packages: packer'
  assert [ ! -e "$CALLS" ]
  # whoever cannot install them goes on without
  FAKE_UID=1000 run -0 "${install[@]}" </dev/null
  assert_output --partial 'some tests will be skipped without: cloud-init packer'
  refute_output --partial 'neither root nor sudo'
  MISSING='packer rsync' FAKE_UID=1000 run -77 "${install[@]}" </dev/null
  assert_output --partial 'neither root nor sudo: rsync packer'
}

# make_warm LOADS CODE -- a checkout whose CellProfiler writes an archive, says that it LOADS a class,
# and ends with CODE
make_warm() {
  checkout=$BATS_TEST_TMPDIR/checkout
  mkdir -p "$checkout/bin/lib" "$checkout/bpcp" "$checkout/.venv/bpcp/bin"
  cp -R "$root/ami_setup" "$checkout/"
  cp "$root/bin/lib/common.bash" "$checkout/bin/lib/"
  printf '#!/bin/sh\n' >"$checkout/.venv/bpcp/bin/python"
  cat >"$checkout/bin/bpcp" <<END
#!/usr/bin/env bash
case \$1 in
  demo) mkdir -p "\${!#}" ;;
  cellprofiler)
    [[ \$JAVA_TOOL_OPTIONS != *AtExit=* ]] || echo archive >"\${JAVA_TOOL_OPTIONS##*AtExit=}"
    [[ \$JAVA_TOOL_OPTIONS != *file=* ]] || echo "$1" >"\${JAVA_TOOL_OPTIONS##*file=}"
    echo 'the last words'
    exit $2
    ;;
esac
END
  chmod +x "$checkout/bin/bpcp" "$checkout/.venv/bpcp/bin/python"
}

@test "warm: a JVM that does not use the archive, or a run that fails, ends the build" {
  make_warm 'java.lang.Object source: shared objects file' 0
  run -70 "$checkout/ami_setup/steps/30-warm.sh"
  assert_output --partial "CellProfiler's JVM does not use $checkout/.venv/cellprofiler.jsa"
  make_warm '' 3
  run -1 "$checkout/ami_setup/steps/30-warm.sh"
  assert_output --partial 'the last words'
  run find "$TMPDIR" -mindepth 1
  assert_output ''
}

# make_environments -- a checkout with environments whose tools answer
make_environments() {
  checkout=$BATS_TEST_TMPDIR/checkout
  mkdir -p "$checkout"/{.git,bpcp/__pycache__,docs} "$checkout"/.venv/{bpcp,cellprofiler}/bin \
    "$checkout/.venv/bpcp/lib/python3.11/site-packages/a_b-1.2.dist-info" "$BATS_TEST_TMPDIR/bin"
  printf '__version__ = "9.8.7"\n' >"$checkout/bpcp/__init__.py"
  printf 'text\n' >"$checkout/docs/a file.md"
  printf 'x' >"$checkout/bpcp/__pycache__/a.pyc"
  printf 'x' >"$checkout/.git/config"
  printf 'a.py,sha256=x,1\n' >"$checkout/.venv/bpcp/lib/python3.11/site-packages/a_b-1.2.dist-info/RECORD"
  local tool
  for tool in bpcp/bin/aws bpcp/bin/python cellprofiler/bin/cellprofiler cellprofiler/bin/python; do
    printf '#!/bin/sh\necho warning of locale; echo version 4.2\n' >"$checkout/.venv/$tool"
    chmod +x "$checkout/.venv/$tool"
  done
  printf '#!/bin/sh\necho 17.0\n' >"$BATS_TEST_TMPDIR/bin/java"
  printf '#!/bin/sh\necho GNU parallel 20260101\n' >"$BATS_TEST_TMPDIR/bin/parallel"
  chmod +x "$BATS_TEST_TMPDIR"/bin/*
  PATH=$BATS_TEST_TMPDIR/bin:$PATH
}

# version_info FIELD -- a field of version-info.json of that checkout
version_info() {
  python3 "$root/ami_setup/version_info.py" --commit abc "$checkout" "$checkout/.venv" >"$BATS_TEST_TMPDIR/info" &&
    python3 -c "import json, sys; print(json.load(open(sys.argv[1]))$1)" "$BATS_TEST_TMPDIR/info"
}

@test "version-info: each package and file has its version and checksum; a tool that fails ends it" {
  [[ -x /usr/bin/dpkg-query ]] || skip 'NOT TESTED: no dpkg here'
  make_environments
  run version_info '["bpcp"]'
  assert_output 9.8.7
  run version_info '["commit"]'
  assert_output abc
  run version_info '["files"]'
  assert_output "{'bpcp/__init__.py': '$(sha256sum <"$checkout/bpcp/__init__.py" | cut -d ' ' -f 1)', 'docs/a file.md': '$(sha256sum <"$checkout/docs/a file.md" | cut -d ' ' -f 1)'}"
  run version_info '["python_packages"]["bpcp"]'
  assert_output "[{'name': 'a_b', 'version': '1.2', 'sha256': '$(sha256sum <"$checkout"/.venv/bpcp/lib/*/*/*/RECORD | cut -d ' ' -f 1)'}]"
  run version_info '["tools"]["cellprofiler"]'
  assert_output 'version 4.2'
  run version_info '["debian_packages"][0]["sha256"]'
  assert_output --regexp '^[0-9a-f]{64}$'
  printf '#!/bin/sh\nexit 1\n' >"$checkout/.venv/cellprofiler/bin/cellprofiler"
  run version_info '["tools"]'
  assert_failure
  assert_output --partial 'CalledProcessError'
}

@test "ami-test: needs root and says so; a root that cannot be made fails, or is skipped aloud" {
  local test=$root/tests/ami/pristine.sh
  mkdir "$BATS_TEST_TMPDIR/bin"
  printf '#!/bin/sh\necho ${FAKE_UID:-0}\n' >"$BATS_TEST_TMPDIR/bin/id"
  printf '#!/bin/sh\necho no such mirror; exit 1\n' >"$BATS_TEST_TMPDIR/bin/debootstrap"
  chmod +x "$BATS_TEST_TMPDIR"/bin/*
  export PATH=$BATS_TEST_TMPDIR/bin:$PATH
  run -64 "$test"
  run -64 "$test" windows
  FAKE_UID=1000 run -77 "$test" debian-12
  assert_output --partial 'NOT TESTED: only root'
  run -1 "$test" debian-12
  assert_output --partial 'no such mirror'
  assert_output --partial 'cannot make the root of debian-12'
  run -0 "$test" ubuntu-22.04
  assert_output --partial 'SKIPPED   ubuntu-22.04'
  run find "$TMPDIR" -mindepth 1
  assert_output ''
}

@test "packer: the template is in form, and valid" {
  type -P packer >/dev/null || skip 'NOT TESTED: there is no packer here'
  local copy=$BATS_TEST_TMPDIR/packer
  mkdir "$copy"
  export CHECKPOINT_DISABLE=1 PACKER_CONFIG_DIR=$BATS_TEST_TMPDIR
  # Packer 1.6.6, Debian's, has the amazon-ebs builder built in, and knows neither plugins nor
  # what is marked as newer: it is given the template without these
  sed '/ # newer than 1.6.6$/d; /# newer than 1.6.6 {/,/# }/d' "$root/ami_setup/packer/bpcp.pkr.hcl" >"$copy/bpcp.pkr.hcl"
  cd "$copy"
  run packer validate -syntax-only "$root/ami_setup/packer/bpcp.pkr.hcl"
  assert_success
  run packer validate -var 'region=eu-central-1' -var 'ssh_cidrs=["192.0.2.1/32"]' bpcp.pkr.hcl
  assert_success
  run packer validate -var 'region=eu-central-1' -var 'ssh_cidrs=["192.0.2.1/32"]' -var 'base=windows' bpcp.pkr.hcl
  assert_failure
  assert_output --partial 'debian-12 or ubuntu-22.04'
  run packer validate -var 'region=eu-central-1' -var 'ssh_cidrs=["192.0.2.1/32"]' -var 'volume_gb=much' bpcp.pkr.hcl
  assert_failure
}

@test "cloud-init: the example is a valid cloud-config, and bpcp-boot accepts its settings" {
  type -P cloud-init >/dev/null || skip 'NOT TESTED: there is no cloud-init here'
  run cloud-init schema --config-file "$root/ami_setup/boot/user-data.yaml"
  assert_success
  "${BPCP_VENV:-$root/.venv}/bpcp/bin/python" -c 'import sys, yaml
for file in yaml.safe_load(open(sys.argv[1]))["write_files"]:
    print(file["content"], end="")' "$root/ami_setup/boot/user-data.yaml" >"$BATS_TEST_TMPDIR/run.conf"
  run "$root/ami_setup/boot/bpcp-boot.sh" --check "$BATS_TEST_TMPDIR/run.conf"
  assert_success
}
