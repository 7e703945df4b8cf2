from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
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


BESIDE = """
import os, signal, sys, time
from bpcp.background import Told, serve
try:
    serve()
    print(os.getpid(), flush=True)
    while True:
        time.sleep(60)
except Told:
    open(sys.argv[1], "w").close()
"""
PARENT = """
import subprocess, sys
subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[2]]).wait()
"""


@pytest.mark.parametrize("how", ["TERM", "HUP", "parent"])
def test_what_stands_beside_a_run_hears_its_end(tmp_path: Path, how: str) -> None:
    ended = tmp_path / "ended"
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, BESIDE, str(ended)],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    # Ctrl-C and a closed terminal are not for it
    assert os.getsid(pid) == pid
    os.kill(pid, signal.SIGINT)
    time.sleep(0.2)
    assert parent.poll() is None
    assert not ended.exists()
    if how == "parent":
        parent.kill()
    else:
        os.kill(pid, signal.Signals[f"SIG{how}"])
    parent.wait(timeout=20)
    wait_for(ended.exists)
