# A RAM disk of the run's own: made before it works, gone after it, however it
# ends. Sourced by the entry script; needs pool.bash.

RAMDISK='' # where it is, while there is one
JANITOR=''

# as_root COMMAND... -- runs COMMAND as root: directly, or by a sudo that asks nothing
as_root() {
  if [[ $(id -u) -eq 0 ]]; then
    "$@"
  else
    sudo -n -- "$@"
  fi
}

# unmake_ramdisk DIR -- removes the RAM disk at DIR, if there is one: a mount, or a link to /dev/shm
unmake_ramdisk() {
  local target
  # the link first: mountpoint and umount would follow one that somebody planted
  if [[ -L $1 ]]; then
    target=$(readlink -- "$1")
    # only what mktemp made for us: a private folder, no link that somebody planted
    if [[ $target == /dev/shm/bpcp-ram-* && ${target#/dev/shm/} != */* &&
      -d $target && ! -L $target && -O $target ]]; then
      rm -rf -- "$target"
    fi
    rm -f -- "$1"
  elif mountpoint -q -- "$1"; then
    # lazily where something still has a file open: what dies gives it back
    as_root umount -- "$1" 2>/dev/null || as_root umount -l -- "$1" 2>/dev/null ||
      say "can't unmount $1: as root, umount -l $(printf '%q' "$1")"
  fi
  rmdir -- "$1" 2>/dev/null || [[ ! -d $1 || -n $(ls -A -- "$1") ]]
}

# mount_ramdisk DIR BYTES -- mounts a tmpfs at DIR that only this user can enter
mount_ramdisk() {
  mkdir -p -- "$1"
  as_root mount -t tmpfs -o "size=$2,mode=0700,uid=$(id -u),gid=$(id -g),nosuid,nodev" bpcp "$1" 2>/dev/null
}

# link_ramdisk DIR -- makes DIR a link to a private folder in /dev/shm
link_ramdisk() {
  local private
  rmdir -- "$1" 2>/dev/null || :
  private=$(mktemp -d /dev/shm/bpcp-ram-XXXXXX 2>/dev/null) && ln -s -- "$private" "$1"
}

# open_ramdisk DIR BYTES -- makes a RAM disk at DIR, and sees to it that it goes when the run does
open_ramdisk() {
  unmake_ramdisk "$1"
  if ! mount_ramdisk "$1" "$2"; then
    if ! link_ramdisk "$1"; then
      mkdir -p -- "$1"
      say "no RAM disk: neither root nor sudo to mount one, and no /dev/shm; working on disk"
      return
    fi
    say "no permission to mount a RAM disk: working in /dev/shm"
  fi
  RAMDISK=$1
  # Every process of the run has the pipe's end; when the last of them is gone, also by kill -9, the
  # janitor reads its end. It keeps the run's lock until it is done, so that no new start comes between.
  exec 7> >(
    trap '' INT TERM HUP
    exec 7>&-
    # it outlives the run, for a moment, and so must not be ended as a part of it
    unset BPCP_RUN
    cat >/dev/null
    unmake_ramdisk "$RAMDISK"
  )
  JANITOR=$!
  AT_EXIT+=(close_ramdisk)
}

# close_ramdisk -- removes the run's RAM disk
close_ramdisk() {
  if [[ -n $RAMDISK ]]; then
    unmake_ramdisk "$RAMDISK"
    RAMDISK=''
    exec 7>&-
    wait "$JANITOR" 2>/dev/null || :
  fi
}
