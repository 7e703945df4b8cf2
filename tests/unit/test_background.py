from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from s3server import wait_for

WORK = """
import subprocess, sys, tempfile
from bpcp.background import tidily
with tidily(), tempfile.TemporaryDirectory(dir=sys.argv[1]) as folder:
    subprocess.run(["sh", "-c", "touch $1/started; exec sleep 60", "sh", folder])
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_told_to_end_nothing_is_left(tmp_path: Path, number: signal.Signals) -> None:
    process = subprocess.Popen([sys.executable, "-c", WORK, str(tmp_path)], cwd=ROOT)
    wait_for(lambda: list(tmp_path.glob("*/started")))
    process.send_signal(number)
    assert process.wait(timeout=20) == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []
