"""Disks of a round that the bench may fill, and whose power it may cut. Needs root.

A power cut is ext4's own shutdown without a flush (EXT4_IOC_SHUTDOWN, as file system developers
test their journals with): from this moment nothing reaches the disk, neither data nor the journal,
and what was written before and never flushed is lost. It happens to the whole file system at one
moment, which a copy of the disk's image, made while something writes to it, would not.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import os
import re
import struct
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

# _IOR('X', 125, __u32) of linux/fs/ext4/ext4.h; and its flag: do not even flush the journal
_SHUTDOWN, _NO_LOG_FLUSH = 0x8004587D, 2
_SIZE_MB = {"ext4": 512, "tmpfs": 128}
_OCTAL = re.compile(rb"\\([0-7]{3})")
_LATE = "commit=60,noauto_da_alloc"


@functools.cache
def missing() -> str:
    """Say why no disk can be mounted here, or its power not be cut; "" where all that works."""
    if os.geteuid() != 0:
        return "not root"
    # in a container, root may mount nothing; only a trial tells
    with tempfile.TemporaryDirectory(prefix="bpcp-chaos-disk-") as folder:
        real = Disk(Path(folder, "disk"), Path(folder, "image"))
        try:
            real.make()
            real.cut_power()
            real.power_on()
            ram = Disk(Path(folder, "ram"))
            ram.make()
            ram.remove()
        except subprocess.CalledProcessError as error:
            return " ".join(f"{error.cmd[0]}: {error.stderr}".split())
        except OSError as error:
            return str(error)
        finally:
            real.remove()
    return ""


def _run(*words: str) -> None:
    subprocess.run(
        words, check=True, capture_output=True, timeout=60, stdin=subprocess.DEVNULL, text=True
    )


@dataclass
class Disk:
    """A mounted file system of the bench's own.

    Attributes
    ----------
    place : Path
        Where it is mounted.
    image : Path or None
        The file that holds it; None for one in memory.
    late : bool
        Whether it flushes nothing for a minute, nor what is renamed.
    """

    place: Path
    image: Path | None = None
    late: bool = False
    filler: Path | None = None

    def make(self) -> None:
        """Make it, empty, and mount it."""
        self.place.mkdir(parents=True, exist_ok=True)
        if self.image:
            with self.image.open("wb") as file:
                file.truncate(_SIZE_MB["ext4"] << 20)
            _run("mkfs.ext4", "-q", "-F", "-m", "0", str(self.image))
        self._mount()

    def _mount(self) -> None:
        if self.image:
            options = f"loop,{_LATE}" if self.late else "loop"
            _run("mount", "-o", options, str(self.image), str(self.place))
        else:
            _run(
                "mount", "-t", "tmpfs", "-o", f"size={_SIZE_MB['tmpfs']}m", "chaos", str(self.place)
            )

    def flush(self) -> None:
        """Bring all that is there to the disk: it has been there for long."""
        _run("sync", "-f", str(self.place))

    def cut_power(self) -> None:
        """Let nothing more come to the disk."""
        if self.image:
            handle = os.open(self.place, os.O_RDONLY)
            try:
                fcntl.ioctl(handle, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
            finally:
                os.close(handle)

    def power_on(self) -> None:
        """Mount it again, its journal replayed; what was in memory is empty.

        Nothing may use it any more.
        """
        self.unmount()
        self._mount()
        self.filler = None

    def fill(self) -> int:
        """Fill it with a file; give the bytes."""
        self.filler = self.place / "filler"
        size, step = 0, 64 << 20
        handle = os.open(self.filler, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            while step >= 4096:
                try:
                    os.posix_fallocate(handle, size, step)
                    size += step
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    step //= 2
        finally:
            os.close(handle)
        return size

    def free(self) -> None:
        """Remove the filler."""
        if self.filler:
            self.filler.unlink(missing_ok=True)
            self.filler = None

    def unmount(self) -> None:
        """Unmount it, and what is mounted below."""
        for place in mounts_below(self.place):
            _unmount(place)

    def remove(self) -> None:
        """Unmount it and remove its image."""
        self.unmount()
        if self.image:
            self.image.unlink(missing_ok=True)
        with suppress(OSError):
            self.place.rmdir()


def _unmount(place: str, patience_s: float = 10.0) -> None:
    end = time.monotonic() + patience_s
    while True:
        try:
            _run("umount", place)
        except subprocess.CalledProcessError:
            if time.monotonic() > end:
                # something holds it; it goes when that does
                _run("umount", "-l", place)
                return
            time.sleep(0.2)
        else:
            return


def mounts_below(place: Path) -> list[str]:
    """List what is mounted at a place and below it, the deepest first. Source: proc(5)."""
    own = str(place)
    there = []
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        escaped = line.split()[4].encode(errors="surrogateescape")
        at = _OCTAL.sub(lambda m: bytes([int(m[1], 8)]), escaped).decode(errors="surrogateescape")
        if at == own or at.startswith(own + "/"):
            there.append(at)
    return sorted(there, key=len, reverse=True)
