from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from bpcp import cellprofiler, doctor
from bpcp.doctor import Answer, Finding, Host
from bpcp.errors import BpcpError, Exit
from bpcp.limits import Limits, read_limits
from bpcp.probe import answer as probe

ROOT = Path(__file__).parents[2]

GOOD = {
    "bash": Answer(0, "5.2"),
    "parallel": Answer(0, "perl: warning: locale\nGNU parallel 20221122\nCopyright …\n"),
    "flock": Answer(0, "flock from util-linux 2.38.1\n"),
    "setpriv": Answer(0, "setpriv from util-linux 2.38.1\n"),
    "java": Answer(0, 'Picked up JAVA_TOOL_OPTIONS: -Xmx1g\nopenjdk version "17.0.15"\nmore\n'),
    "aws": Answer(0, "aws-cli/1.46.2 Python/3.11.2\n"),
    "valgrind": Answer(0, "valgrind-3.19.0\n"),
    "locale": Answer(0, "UTF-8\n"),
}
ABSENT = Answer(None, "No such file or directory")
ROOMY = Limits(mem_free_gb=24, cores_seen=4, cores_allowed=4, tasks=None, open_files=4096)

# pages of files, and the kernel's own, are given back when needed: 500 MB, and 100 MB
STAT_V2 = "anon 1\ninactive_file 300000000\nactive_file 150000000\nslab_reclaimable 50000000\n"
STAT_V1 = "total_inactive_file 60000000\ntotal_active_file 40000000\ninactive_file 1\n"


def answering(answers: Mapping[str, Answer]) -> Callable[[Sequence[str]], Answer]:
    return lambda argv: answers.get(Path(argv[0]).name, ABSENT)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    lock = tmp_path / "bpcp.txt"
    lock.write_text("# Made by …\nnumpy==2.2.6\npandas==2.3.3\n")
    shm = tmp_path / "shm"
    shm.mkdir()
    return Host(
        environ={"TMPDIR": str(tmp_path), "LANG": "en_GB.UTF-8"},
        ask=answering(GOOD),
        which=lambda name: f"/usr/bin/{name}",
        installed=lambda name: {"numpy": "2.2.6", "pandas": "2.3.3"}[name],
        cellprofiler_command=lambda: ["docker", "run", "cp"],
        cellprofiler_version=lambda argv: "4.2.8.1",
        probed=lambda argv: probe.Answer({}, 85, 900, ()),
        free_bytes=lambda path: 50 * 10**9,
        mount_flags=lambda path: 0,
        shm=shm,
        lock=lock,
        venv=tmp_path / "venv",
    )


def with_tool(host: Host, name: str, answer: Answer) -> Host:
    return replace(host, ask=answering({**GOOD, name: answer}))


def test_all_is_well(host: Host, tmp_path: Path) -> None:
    findings = doctor.examine(host, ROOMY, tmp_path)
    assert [f for f in findings if f.state != "ok"] == []
    assert all(f.found and not f.remedy for f in findings)
    assert len({f.name for f in findings}) == len(findings)
    assert doctor.exit_code(findings) == Exit.OK


@pytest.mark.parametrize("text", ["4.3", "3.2"])
def test_old_bash(host: Host, text: str) -> None:
    assert doctor.check_bash(with_tool(host, "bash", Answer(0, text))).state == "FAIL"


def test_bash_4_4_and_5_are_fine_and_none_is_not(host: Host) -> None:
    assert doctor.check_bash(with_tool(host, "bash", Answer(0, "4.4"))).state == "ok"
    assert doctor.check_bash(with_tool(host, "bash", Answer(0, "5.0"))).state == "ok"
    assert doctor.check_bash(with_tool(host, "bash", ABSENT)).state == "FAIL"


def test_parallel_of_moreutils_is_named(host: Host) -> None:
    answer = Answer(
        1,
        "parallel: invalid option -- '-'\nparallel [OPTIONS] command -- arguments\n"
        "\tfor each argument, run command with argument\n",
    )
    finding = doctor.check_parallel(with_tool(host, "parallel", answer))
    assert finding.state == "FAIL"
    assert "moreutils" in finding.found
    assert finding.remedy


def test_old_absent_and_broken_parallel(host: Host) -> None:
    old = doctor.check_parallel(with_tool(host, "parallel", Answer(0, "GNU parallel 20161222\n")))
    assert (old.state, "20161222" in old.found, "20210822" in old.remedy) == ("FAIL", True, True)
    absent = doctor.check_parallel(replace(host, which=lambda name: None))
    assert (absent.state, absent.found) == ("FAIL", "not on PATH")
    broken = doctor.check_parallel(with_tool(host, "parallel", Answer(2, "Can't locate perl\n")))
    assert (broken.state, "Can't locate perl" in broken.found) == ("FAIL", True)


@pytest.mark.parametrize("name", ["flock", "setpriv"])
def test_absent_tool(host: Host, name: str) -> None:
    finding = doctor.check_tool(with_tool(host, name, ABSENT), name)
    assert (finding.name, finding.state, finding.code) == (name, "FAIL", Exit.UNAVAILABLE)


def test_packages_that_differ_from_the_lock(host: Host) -> None:
    def installed(name: str) -> str:
        if name == "pandas":
            raise PackageNotFoundError(name)
        return "1.0"

    finding = doctor.check_packages(replace(host, installed=installed))
    assert finding.state == "FAIL"
    assert finding.found == "numpy 1.0, not 2.2.6; pandas is missing"
    assert "install.sh" in finding.remedy


def test_missing_lock(host: Host) -> None:
    finding = doctor.check_packages(replace(host, lock=Path("/nonexistent/bpcp.txt")))
    assert (finding.state, finding.code) == ("FAIL", Exit.UNAVAILABLE)


def test_the_real_lock_holds_what_the_package_imports() -> None:
    pins = doctor.read_lock((ROOT / "ami_setup/locks/bpcp.txt").read_text())
    assert {"numpy", "pandas", "psutil", "pyarrow", "tifffile", "awscli"} <= set(pins)
    assert all(version[0].isdigit() for version in pins.values())


@pytest.mark.parametrize(
    ("error", "code", "remedy"),
    [
        (BpcpError(Exit.UNAVAILABLE, "not installed", "do this"), Exit.UNAVAILABLE, "do this"),
        (BpcpError(Exit.UNAVAILABLE, "no version", "bpcp doctor"), Exit.UNAVAILABLE, "install.sh"),
        (BpcpError(Exit.BAD_SETTING, "can't be read"), Exit.BAD_SETTING, "install.sh"),
    ],
)
def test_no_cellprofiler(host: Host, error: BpcpError, code: Exit, remedy: str) -> None:
    def command() -> list[str]:
        raise error

    (finding,) = doctor.check_cellprofiler(replace(host, cellprofiler_command=command))
    assert (finding.state, finding.found, finding.code) == ("FAIL", str(error), code)
    assert remedy in finding.remedy


def plain_cellprofiler(host: Host, python: str, mysql: Answer) -> Host:
    folder = host.venv / "cellprofiler" / "bin"
    folder.mkdir(parents=True)
    (folder / "python").touch()
    (folder / "cellprofiler").write_text(f"#!{folder}/python\nimport cellprofiler\n")

    def ask(argv: Sequence[str]) -> Answer:
        assert argv[0] == str(folder / "python")
        return mysql if "MySQLdb" in argv[-1] else Answer(0, python + "\n")

    command = [str(folder / "cellprofiler")]
    return replace(host, cellprofiler_command=lambda: command, which=lambda name: name, ask=ask)


def test_python_3_12_and_no_mysqldb_are_warnings(host: Host) -> None:
    lacking = Answer(1, "Traceback …\nModuleNotFoundError: No module named 'MySQLdb'\n")
    findings = doctor.check_cellprofiler(plain_cellprofiler(host, "3.12.1", lacking))
    assert [f.state for f in findings] == ["ok", "warn", "warn", "ok"]
    assert "values differ" in findings[1].found
    assert "No module named 'MySQLdb'" in findings[2].found
    assert doctor.exit_code(findings) == Exit.OK


@pytest.mark.parametrize("version", ["3.9.18", "3.10.2", "3.11.9"])
def test_python_before_3_12_is_fine(host: Host, version: str) -> None:
    findings = doctor.check_cellprofiler(plain_cellprofiler(host, version, Answer(0, "")))
    assert [f.state for f in findings] == ["ok", "ok", "ok", "ok"]


def test_nothing_is_said_of_a_python_that_cannot_be_seen(host: Host) -> None:
    plain, modules = doctor.check_cellprofiler(host)
    assert plain.name == "CellProfiler"
    assert (modules.name, modules.state) == ("its modules", "ok")
    assert "not tried" in modules.found


def test_modules_that_do_not_work_are_named(host: Host) -> None:
    broken = probe.Broken("MeasureGranularity", "2-D", (), "TypeError: x")
    known = probe.Answer({}, 85, 900, (broken,))
    finding = doctor.check_modules(replace(host, probed=lambda argv: known), ["cellprofiler"])
    assert finding.state == "warn"
    assert "MeasureGranularity" in finding.found
    assert "--python python3.9" in finding.remedy
    assert doctor.exit_code([finding]) == Exit.OK


def test_modules_that_work_and_that_could_not_be_tried(host: Host) -> None:
    fine = doctor.check_modules(host, ["cellprofiler"])
    assert (fine.state, fine.found) == ("ok", "85 in 900 modes: all work")
    silent = doctor.check_modules(replace(host, probed=lambda argv: None), ["cellprofiler"])
    assert (silent.state, silent.found) == ("warn", "could not be tried")
    assert "modules.py" in silent.remedy


def test_a_wrapper_beside_another_python_is_not_taken_for_an_environment(tmp_path: Path) -> None:
    (tmp_path / "python").touch()
    wrapper = tmp_path / "cellprofiler"
    wrapper.write_text("#!/bin/sh\nexec docker run cellprofiler\n")
    assert cellprofiler.python_of([str(wrapper)], lambda name: name) is None
    assert (
        cellprofiler.python_of(["python3", "-m", "cellprofiler"], lambda n: f"/x/{n}")
        == "/x/python3"
    )
    assert cellprofiler.python_of(["gone"], lambda name: None) is None


@pytest.mark.parametrize("variable", ["JAVA_HOME", "CP_JAVA_HOME"])
def test_java_home_that_is_wrong_is_a_bad_setting(host: Host, variable: str) -> None:
    finding = doctor.check_java(replace(host, environ={variable: "/nonexistent"}))
    assert (finding.state, finding.code) == ("FAIL", Exit.BAD_SETTING)
    assert variable in finding.remedy


def test_java(host: Host, tmp_path: Path) -> None:
    assert doctor.check_java(host).found == 'openjdk version "17.0.15"'
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/java").touch()
    assert doctor.check_java(replace(host, environ={"JAVA_HOME": str(tmp_path)})).state == "ok"
    assert doctor.check_java(with_tool(host, "java", ABSENT)).state == "FAIL"


def test_what_only_some_commands_need_is_a_warning(host: Host) -> None:
    for name, check in (("aws", doctor.check_aws), ("valgrind", doctor.check_valgrind)):
        finding = check(with_tool(host, name, ABSENT))
        assert (finding.state, bool(finding.remedy)) == ("warn", True)


def test_aws_of_bpcps_own_environment_counts(host: Host) -> None:
    own = host.venv / "bpcp" / "bin" / "aws"
    own.parent.mkdir(parents=True)
    own.touch()
    asked: list[str] = []

    def ask(argv: Sequence[str]) -> Answer:
        asked.append(argv[0])
        return GOOD["aws"]

    assert doctor.check_aws(replace(host, which=lambda name: None, ask=ask)).state == "ok"
    assert asked == [str(own)]


@pytest.mark.parametrize(
    ("affinity", "quota", "cores"),
    [(4, None, 4), (2, None, 2), (4, 1.5, 2), (4, 0.2, 1), (2, 3, 2)],
)
def test_cores(affinity: int, quota: float | None, cores: int) -> None:
    limits = replace(ROOMY, cores_allowed=affinity, cpu_quota=quota)
    assert limits.cores == cores
    assert doctor.check_cores(limits).found.startswith(f"{cores} of 4")


def test_memory_says_how_many_fit() -> None:
    finding = doctor.check_memory(replace(ROOMY, mem_free_gb=1.3))
    assert finding.state == "warn"
    assert "room for 2 processes" in finding.found
    assert "at most 2" in finding.remedy
    assert doctor.check_memory(replace(ROOMY, mem_free_gb=2.5)).state == "ok"
    assert "at most 1" in doctor.check_memory(replace(ROOMY, mem_free_gb=0.1)).remedy


def test_limits_on_processes_and_files() -> None:
    assert doctor.check_tasks(replace(ROOMY, tasks=100)).state == "warn"
    assert doctor.check_tasks(replace(ROOMY, tasks=4000)).state == "ok"
    few = doctor.check_open_files(replace(ROOMY, open_files=256))
    assert (few.state, few.remedy) == ("warn", "ulimit -n 4096")
    assert doctor.check_open_files(replace(ROOMY, open_files=1024)).state == "ok"
    assert doctor.check_open_files(replace(ROOMY, open_files=None)).state == "ok"


def test_room_on_disks(host: Host, tmp_path: Path) -> None:
    tight = replace(host, free_bytes=lambda path: 10**8)
    assert doctor.check_workspace(tight, tmp_path).state == "warn"
    assert doctor.check_tmpdir(tight).state == "warn"
    assert doctor.check_shm(tight, tmp_path).state == "warn"


def test_tmpdir_that_is_wrong_is_a_bad_setting(host: Host) -> None:
    finding = doctor.check_tmpdir(replace(host, environ={"TMPDIR": "/nonexistent"}))
    assert (finding.state, finding.code) == ("FAIL", Exit.BAD_SETTING)
    # nobody, root included, can make a file here
    finding = doctor.check_tmpdir(replace(host, environ={"TMPDIR": "/proc/self"}))
    assert (finding.state, finding.code) == ("FAIL", Exit.BAD_SETTING)


def test_noexec_tmpdir(host: Host) -> None:
    finding = doctor.check_tmpdir(replace(host, mount_flags=lambda path: os.ST_NOEXEC))
    assert (finding.state, "noexec" in finding.found) == ("warn", True)


def test_no_ram_disk_is_a_warning(host: Host, tmp_path: Path) -> None:
    assert doctor.check_shm(replace(host, shm=Path("/nonexistent")), tmp_path).state == "warn"


def test_workspace_without_permission(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    finding = doctor.check_workspace(host, tmp_path)
    assert (finding.state, finding.code) == ("FAIL", Exit.BAD_SETTING)


@pytest.mark.parametrize(
    ("environ", "charmap", "state"),
    [
        ({"LANG": "C"}, "ANSI_X3.4-1968", "warn"),
        ({}, "ANSI_X3.4-1968", "warn"),
        # named, but not installed
        ({"LANG": "de_DE.UTF-8"}, "locale: Cannot set LC_CTYPE\nANSI_X3.4-1968", "warn"),
        ({"LC_ALL": "C.UTF-8", "LANG": "C"}, "UTF-8", "ok"),
    ],
)
def test_locale(host: Host, environ: dict[str, str], charmap: str, state: str) -> None:
    told = replace(with_tool(host, "locale", Answer(0, charmap + "\n")), environ=environ)
    assert doctor.check_locale(told).state == state


def test_locale_without_the_locale_tool(host: Host) -> None:
    silent = with_tool(host, "locale", ABSENT)
    assert doctor.check_locale(silent).state == "ok"
    assert doctor.check_locale(replace(silent, environ={})).state == "warn"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_limits_of_cgroup_v2_and_of_those_above_it(tmp_path: Path) -> None:
    proc, top = tmp_path / "proc", tmp_path / "cgroup"
    write(proc / "meminfo", "MemTotal: 20000000 kB\nMemAvailable:   16000000 kB\n")
    write(proc / "self/cgroup", "0::/a.slice/b\n")
    write(top / "a.slice/memory.max", "3000000000\n")
    write(top / "a.slice/memory.current", "1500000000\n")
    write(top / "a.slice/memory.stat", STAT_V2)
    write(top / "a.slice/cpu.max", "150000 100000\n")
    write(top / "a.slice/b/memory.max", "max\n")
    write(top / "a.slice/b/cpu.max", "max 100000\n")
    write(top / "a.slice/b/pids.max", "512\n")
    limits = read_limits(proc, top)
    assert limits.mem_free_gb == pytest.approx(2.0)
    # where the kernel begins to slow processes down
    write(top / "a.slice/memory.high", "2500000000\n")
    assert read_limits(proc, top).mem_free_gb == pytest.approx(1.5)
    assert limits.cpu_quota == 1.5
    assert limits.tasks is not None and limits.tasks <= 512


def test_limits_of_cgroup_v1_in_a_container(tmp_path: Path) -> None:
    proc, top = tmp_path / "proc", tmp_path / "cgroup"
    write(proc / "meminfo", "MemAvailable:   16000000 kB\n")
    # the path is the host's, and not to be seen from inside
    write(proc / "self/cgroup", "5:memory:/docker/f00\n4:cpu,cpuacct:/docker/f00\n")
    write(top / "memory/memory.limit_in_bytes", "1000000000\n")
    write(top / "memory/memory.usage_in_bytes", "400000000\n")
    write(top / "memory/memory.stat", STAT_V1)
    write(top / "cpu,cpuacct/cpu.cfs_quota_us", "50000\n")
    write(top / "cpu,cpuacct/cpu.cfs_period_us", "100000\n")
    limits = read_limits(proc, top)
    assert limits.mem_free_gb == pytest.approx(0.7)
    assert limits.cpu_quota == 0.5


def test_cgroups_without_limits(tmp_path: Path) -> None:
    proc, top = tmp_path / "proc", tmp_path / "cgroup"
    write(proc / "meminfo", "MemAvailable:   16000000 kB\n")
    write(proc / "self/cgroup", "5:memory:/\n4:cpu,cpuacct:/\n0::/\n")
    write(top / "memory/memory.limit_in_bytes", "9223372036854771712\n")
    write(top / "cpu/cpu.cfs_quota_us", "-1\n")
    write(top / "cpu/cpu.cfs_period_us", "100000\n")
    limits = read_limits(proc, top)
    assert limits.mem_free_gb == pytest.approx(16.384)
    assert limits.cpu_quota is None


def test_limits_of_this_machine() -> None:
    limits = read_limits()
    assert 0 < limits.mem_free_gb < 100_000
    assert 1 <= limits.cores <= limits.cores_seen


def test_exit_code_puts_a_missing_tool_first() -> None:
    warn = Finding("a", "warn", "", "do", Exit.BAD_SETTING)
    setting = Finding("b", "FAIL", "", "do", Exit.BAD_SETTING)
    tool = Finding("c", "FAIL", "", "do")
    assert doctor.exit_code([warn]) == 0
    assert doctor.exit_code([warn, setting]) == 78
    assert doctor.exit_code([setting, tool]) == 69


def test_text_has_a_remedy_line_under_what_is_not_well() -> None:
    text = doctor.as_text([Finding("a", "ok", "1"), Finding("long", "FAIL", "gone", "get it")])
    assert text == "ok    a     1\nFAIL  long  gone\n      → get it\n"


def test_main_json_and_exit_code(
    host: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = doctor.main(["--json", str(tmp_path)], with_tool(host, "java", ABSENT))
    rows = json.loads(capsys.readouterr().out)
    assert code == 69
    assert {tuple(row) for row in rows} == {("name", "state", "found", "remedy")}
    assert [row["name"] for row in rows if row["state"] == "FAIL"] == ["Java"]


def test_wrong_command_lines(host: Host, tmp_path: Path) -> None:
    with pytest.raises(BpcpError) as error:
        doctor.main([str(tmp_path / "gone")], host)
    assert error.value.code == Exit.NO_INPUT
    with pytest.raises(BpcpError) as error:
        doctor.main(["--nonsense"], host)
    assert error.value.code == Exit.USAGE


def test_ask_survives_what_tools_do(tmp_path: Path) -> None:
    assert doctor.ask([str(tmp_path / "gone")]).code is None
    script = [sys.executable, "-c", r"import os; os.write(2, b'\xff\n'); raise SystemExit(3)"]
    assert doctor.ask(script) == Answer(3, "�\n")


def test_the_command_itself(tmp_path: Path) -> None:
    environ = {**os.environ, "BPCP_VENV": str(Path(sys.prefix).parent), "JAVA_HOME": "/nonexistent"}
    done = subprocess.run(
        [str(ROOT / "bin/bpcp"), "doctor", str(tmp_path)],
        env={**environ, "BPCP_CELLPROFILER": "'"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "JAVA_HOME names /nonexistent" in done.stdout
    assert "BPCP_CELLPROFILER can't be read" in done.stdout
    assert done.returncode == 78, done.stdout + done.stderr


def test_the_version_of_cellprofilers_python() -> None:
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert cellprofiler.python_version([sys.executable, "-m", "cellprofiler"]) == here
    assert cellprofiler.python_version(["/no/such/cellprofiler"]) == ""
