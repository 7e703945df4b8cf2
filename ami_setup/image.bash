# What must not be in an image: one list, which the clean step removes and the validator looks for.
# Sourced, never run. Each function takes ROOT, the folder that the image's files lie in ("" for /).

# homes ROOT -- prints the home folder of each account, and the skeleton of those to come, one a line
homes() {
  {
    printf '/etc/skel\n'
    cut -d : -f 6 -- "$1/etc/passwd"
  } | sort -u
}

# found KIND PATH... -- prints KIND and PATH, each ended by NUL, for every PATH that is there
found() {
  local kind=$1 path
  shift
  for path in "$@"; do
    if [[ -e $path || -L $path ]]; then
      printf '%s\0%s\0' "$kind" "$path"
    fi
  done
}

# leftovers ROOT CHECKOUT -- prints `KIND NUL PATH NUL` for each file or folder that must not be in
# the image; CHECKOUT is bpcp's folder, below ROOT
leftovers() (
  root=$1 checkout=$2
  shopt -s nullglob dotglob
  while IFS= read -r home; do
    home=$root$home
    found key "$home"/.ssh/*
    found history "$home"/.*_history "$home"/.lesshst "$home"/.viminfo "$home"/.wget-hsts
    found credential "$home"/.aws "$home"/.netrc "$home"/.git-credentials "$home"/.gnupg \
      "$home"/.docker "$home"/.pgpass "$home"/.pypirc "$home"/.config/gh "$home"/.config/gcloud
    found cache "$home"/.cache
  done < <(homes "$root")
  found host-key "$root"/etc/ssh/ssh_host_*
  # what one boot of one machine leaves: cloud-init would take a copy for the same machine
  found machine "$root"/var/lib/cloud/* "$root"/var/lib/dbus/machine-id "$root"/var/lib/dhcp/*.leases \
    "$root"/var/lib/systemd/credential.secret "$root"/var/lib/amazon/ssm
  find "$root/var/log" ! -type d -printf 'log\0%p\0'
  # a service that is running now has a private one; the next boot makes its own
  find "$root/tmp" "$root/var/tmp" -mindepth 1 -maxdepth 1 ! -name 'systemd-private-*' \
    ! -name snap-private-tmp -printf 'temporary\0%p\0'
  found cache "$root"/var/cache/apt/archives/*.deb "$root"/var/cache/apt/*.bin "$root"/var/lib/apt/lists/*
  found history "$checkout"/.git
)

# open_accounts ROOT -- prints each account that a password, or none, would open
open_accounts() {
  awk -F : '$2 !~ /^[!*]+$/ { print $1 }' "$1/etc/shadow"
}
