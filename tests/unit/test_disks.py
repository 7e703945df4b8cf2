"""What lies where: mount tables as the kernel writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from bpcp import disks
from bpcp.disks import Mount

MOUNTS = r"""21 1 259:1 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p1 rw
30 21 0:25 / /run/user rw,nosuid - tmpfs tmpfs rw
40 21 0:50 / /data rw - nfs4 server:/export rw
41 40 259:2 / /data/my\040plates rw shared:2 - xfs /dev/nvme1n1 rw
42 21 0:60 / /mnt/bucket rw - fuse.s3fs s3fs rw
43 42 0:61 / /mnt/bucket rw - fuse.goofys bucket rw
"""


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("/home/lab", Mount("ext4", "/dev/nvme0n1p1")),
        ("/run/user/7/x", Mount("tmpfs", "tmpfs")),
        ("/data", Mount("nfs4", "server:/export")),
        ("/data/my plates/p1", Mount("xfs", "/dev/nvme1n1")),
        ("/data/my", Mount("nfs4", "server:/export")),
        ("/mnt/bucket/a", Mount("fuse.goofys", "bucket")),
    ],
)
def test_a_folder_lies_on_the_deepest_and_last_mount(
    tmp_path: Path, folder: str, expected: Mount
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(MOUNTS)
    assert disks.mount_of(Path(folder), table) == expected


def test_this_machine_is_read() -> None:
    assert disks.mount_of(Path("/proc")).kind == "proc"


def test_a_disk_gives_its_model_also_for_a_partition(tmp_path: Path) -> None:
    disk = tmp_path / "devices" / "nvme0n1"
    (disk / "nvme0n1p1").mkdir(parents=True)
    (disk / "device").mkdir()
    (disk / "device" / "model").write_text("Amazon Elastic Block Store   \n")
    block = tmp_path / "class"
    block.mkdir()
    for name, target in (("nvme0n1", disk), ("nvme0n1p1", disk / "nvme0n1p1")):
        (block / name).symlink_to(target)
    for source in ("/dev/nvme0n1", "/dev/nvme0n1p1"):
        assert disks.model_of(Mount("ext4", source), block) == "Amazon Elastic Block Store"
    assert disks.model_of(Mount("nfs4", "server:/export"), block) == ""


@pytest.mark.parametrize(
    ("mount", "model", "words"),
    [
        (Mount("nfs4", "s:/e"), "", "auto helps: images come over nfs4"),
        (Mount("fuse.s3fs", "s3fs"), "", "auto helps: images come over fuse.s3fs"),
        (Mount("ext4", "/dev/x"), "Amazon Elastic Block Store", "helps where images are large"),
        (Mount("ext4", "/dev/x"), "Amazon EC2 NVMe Instance Storage", "gains little"),
        (Mount("tmpfs", "tmpfs"), "", "in memory already"),
    ],
)
def test_the_advice_follows_the_disk(mount: Mount, model: str, words: str) -> None:
    assert words in disks.advice(mount, model)
