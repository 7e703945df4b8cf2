"""Run CellProfiler's own module tests on an environment that install.sh made; count what fails.

`tests/module_tests.py CELLPROFILER CHECKOUT PYTEST [NAME ...]`, for the table in
docs/cellprofiler.md. CELLPROFILER is an environment (`.venv/cellprofiler`), CHECKOUT a clone of
CellProfiler's repository at the tag of the version in it, PYTEST a folder made by that
environment's `bin/python -m pip install --target PYTEST 'pytest<8' pytest-timeout`, and NAME a
module's test, `test_resize`; without one, all run, which takes 10 minutes of one core. Nothing is
fetched, and the environment is left as it is. Exit status 1 where tests fail for a reason of
their own, which are listed: those that need a MySQL server or files of another repository do not
count.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

# what is not there, by the error's own words
ABSENT = {
    "a MySQL server": "Can't connect to local",
    "files of another repository": "No such file or directory",
    "the network": "urlopen error",
}
LIMIT_S = 300


def arrange(folder: Path, environment: Path, checkout: Path) -> None:
    """Put the tests beside CellProfiler's package, where they look for their files."""
    (package,) = environment.glob("lib/python3.*/site-packages/cellprofiler")
    (folder / "cellprofiler").symlink_to(package)
    shutil.copytree(checkout / "tests", folder / "tests")
    # it stops the run: it imports modules that CellProfiler 4 no longer has
    (folder / "tests" / "modules" / "test_metadata.py").unlink(missing_ok=True)
    for name in ("home", "tmp"):
        (folder / name).mkdir()


def run(folder: Path, environment: Path, pytest: Path, names: list[str]) -> None:
    """Run the tests; their report becomes report.xml, whatever they say."""
    subprocess.run(
        [
            environment / "bin" / "python",
            *("-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=line"),
            *(f"--timeout={LIMIT_S}", f"--junitxml={folder / 'report.xml'}"),
            *([f"tests/modules/{name}.py" for name in names] or ["tests/modules"]),
        ],
        cwd=folder,
        env={
            **os.environ,
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "tmp"),
            "PYTHONPATH": f"{folder}{os.pathsep}{pytest}",
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        check=False,
    )


def reason(message: str) -> str:
    """Say why a test fails: what is absent, or its own first line."""
    for what, words in ABSENT.items():
        if words in message:
            return what
    return message.splitlines()[0][:120] if message else "no message"


def report(path: Path) -> int:
    """Print the counts and the failures that are CellProfiler's or its packages' own."""
    counts: Counter[str] = Counter()
    own: list[str] = []
    # pytest has just written it
    for test in ElementTree.parse(path).getroot().iter("testcase"):  # noqa: S314
        broken = [*test.findall("failure"), *test.findall("error")]
        if broken:
            why = reason(broken[0].get("message", ""))
            counts[f"need {why}" if why in ABSENT else "fail"] += 1
            if why not in ABSENT:
                name = test.get("classname", "").removeprefix("tests.modules.")
                own.append(f"{name}::{test.get('name')}\t{why}")
        else:
            counts["skipped" if test.find("skipped") is not None else "pass"] += 1
    for what, count in sorted(counts.items()):
        print(f"{count:5d} {what}")
    print(*own, sep="\n")
    return 1 if own else 0


def main() -> int:
    summary = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(description=summary)
    for name in ("cellprofiler", "checkout", "pytest"):
        parser.add_argument(name, metavar=name.upper(), type=Path)
    parser.add_argument("names", metavar="NAME", nargs="*")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        arrange(folder, options.cellprofiler.resolve(), options.checkout)
        run(folder, options.cellprofiler.resolve(), options.pytest.resolve(), options.names)
        if not (folder / "report.xml").is_file():
            print("the tests did not run; pytest says why above", file=sys.stderr)
            return 69
        return report(folder / "report.xml")


if __name__ == "__main__":
    sys.exit(main())
