"""Print version-info.json: everything that is in an image, with versions and checksums.

`version_info.py [--commit ID] [--base NAME] CHECKOUT VENV`, run by bpcp's own Python as the last
step of an image build. Checksums are SHA-256. A Debian package is summed over the list of its
files' MD5 sums that dpkg keeps, a Python package over its RECORD, which holds a SHA-256 of each
file: so an equal line means equal files.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

DPKG = Path("/var/lib/dpkg/info")


def sha256(path: Path) -> str | None:
    """Sum a file; None where there is none."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def answer(*argv: str) -> str:
    """Give a tool's first line that holds a digit: versions do, warnings of locale and so on don't.

    Raises
    ------
    subprocess.SubprocessError
        Where it fails or does not end.
    """
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=True,
    )
    return next((line for line in done.stdout.splitlines() if re.search(r"\d", line)), "")


def debian_packages() -> list[dict[str, str | None]]:
    """List the Debian packages that are installed, by name."""
    done = subprocess.run(
        [
            "/usr/bin/dpkg-query",
            "-W",
            "-f",
            "${db:Status-Status}\t${Package}\t${Version}\t${Architecture}\n",
        ],
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
        check=True,
    )
    packages = []
    for line in done.stdout.splitlines():
        status, name, version, architecture = line.split("\t")
        if status != "installed":
            continue
        sums = [DPKG / f"{name}.md5sums", DPKG / f"{name}:{architecture}.md5sums"]
        packages.append(
            {
                "name": name,
                "version": version,
                "architecture": architecture,
                "sha256": next(filter(None, map(sha256, sums)), None),
            }
        )
    return packages


def python_packages(env: Path) -> list[dict[str, str | None]]:
    """List the packages of a Python environment, by name."""
    packages = []
    for info in sorted(env.glob("lib/python3*/site-packages/*.dist-info")):
        name, version = info.name.removesuffix(".dist-info").rsplit("-", 1)
        packages.append({"name": name, "version": version, "sha256": sha256(info / "RECORD")})
    return packages


def checkout_files(checkout: Path) -> dict[str, str | None]:
    """Sum each file of the checkout, the environments and byte-code apart."""
    apart = {".venv", ".git", "__pycache__"}
    return {
        str(path.relative_to(checkout)): sha256(path)
        for path in sorted(checkout.rglob("*"))
        if path.is_file()
        and not path.name.startswith("version-info.json")
        and apart.isdisjoint(path.relative_to(checkout).parts)
    }


def os_release() -> dict[str, str]:
    """Give the distribution's own words for itself."""
    pairs = (
        line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if line
    )
    wanted = ("ID", "VERSION", "PRETTY_NAME")
    return {key: value.strip('"') for key, value in pairs if key in wanted}


def version_info(checkout: Path, venv: Path, commit: str, base: str) -> dict[str, object]:
    """Collect everything that version-info.json holds."""
    version = re.search(r'__version__ = "(.*)"', (checkout / "bpcp/__init__.py").read_text())
    archive = venv / "cellprofiler.jsa"
    return {
        "bpcp": version[1] if version else "unknown",
        "commit": commit,
        "built": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "base": base,
        "system": os_release(),
        "tools": {
            "aws": answer(str(venv / "bpcp/bin/aws"), "--version"),
            "cellprofiler": answer(str(venv / "cellprofiler/bin/cellprofiler"), "--version"),
            "java": answer("java", "-version"),
            "parallel": answer("parallel", "--version"),
            "python (bpcp)": answer(str(venv / "bpcp/bin/python"), "--version"),
            "python (cellprofiler)": answer(str(venv / "cellprofiler/bin/python"), "--version"),
        },
        "jvm_archive_sha256": sha256(archive),
        "debian_packages": debian_packages(),
        "python_packages": {
            name: python_packages(venv / name) for name in ("bpcp", "cellprofiler")
        },
        "files": checkout_files(checkout),
    }


def main() -> None:
    """Read the command line, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commit", default="unknown")
    parser.add_argument("--base", default="unknown")
    parser.add_argument("checkout", type=Path)
    parser.add_argument("venv", type=Path)
    asked = parser.parse_args()
    info = version_info(asked.checkout, asked.venv, asked.commit, asked.base)
    json.dump(info, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
