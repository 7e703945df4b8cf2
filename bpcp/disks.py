"""What kind of disk a folder lies on, and whether a RAM disk would help there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
_NETWORK = ("nfs", "cifs", "smb", "ceph", "gluster", "lustre", "beegfs", "gpfs", "afs", "9p")
_ESCAPED = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    """A mounted file system.

    Attributes
    ----------
    kind : str
        Its type, e.g. "ext4", "nfs4", "tmpfs", "fuse.s3fs".
    source : str
        The device or server.
    """

    kind: str
    source: str

    @property
    def is_memory(self) -> bool:
        """Whether its files lie in memory."""
        return self.kind in ("tmpfs", "ramfs")

    @property
    def is_remote(self) -> bool:
        """Whether its files come over a network, or through a program such as an S3 mount."""
        return self.kind.startswith(("fuse", *_NETWORK))


def mount_of(folder: Path, mounts: Path = MOUNTS) -> Mount:
    """Find the file system that a folder lies on. Source of the format: proc(5), mountinfo."""
    wanted = folder.resolve()
    found, depth = Mount("unknown", ""), -1
    for line in mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        point = Path(_ESCAPED.sub(lambda m: chr(int(m[1], 8)), before.split()[4]))
        # of two on one place, the later one hides the earlier
        if (wanted == point or point in wanted.parents) and len(point.parts) >= depth:
            kind, source = after.split()[:2]
            found, depth = Mount(kind, source), len(point.parts)
    return found


def model_of(mount: Mount, sys_block: Path = Path("/sys/class/block")) -> str:
    """Give a disk's model as it calls itself, or "": "Amazon Elastic Block Store" for EBS."""
    device = (sys_block / Path(mount.source).name).resolve()
    for folder in (device, device.parent):
        try:
            return (folder / "device" / "model").read_text(encoding="utf-8").strip()
        except OSError:
            continue
    return ""


def advice(mount: Mount, model: str) -> str:
    """Say whether a RAM disk helps images that lie there. Measured: docs/ramdisk.md."""
    if mount.is_remote:
        return f"--ramdisk auto helps: images come over {mount.kind}"
    if "Elastic Block Store" in model:
        return "--ramdisk auto helps where images are large: they come over the network (EBS)"
    if mount.is_memory:
        return "images lie in memory already"
    return f"gains little for images on a local disk ({mount.kind})"
