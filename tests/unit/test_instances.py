from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, refused

from bpcp import s3
from bpcp.errors import Exit
from bpcp.profile import __main__ as profile
from bpcp.profile import instances, words
from bpcp.profile.figures import Figures
from bpcp.profile.instances import Catalog, Instance, load, offers, prices, refresh, worth_showing

FIGURES = Figures(
    together=2,
    start_s=4.0,
    set_s=10.0,
    set_error_s=0.2,
    end_s=0.5,
    alone_s=8.0,
    check_s=0.01,
    plan_s=5.0,
    peak_mb=1100,
    pss_mb=1000,
    mean_mb=900,
    growth_mb=0.0,
    sets=24,
)
TYPES = (
    Instance("c6a.2xlarge", 8, 16, 0, 0.306),
    Instance("c6a.8xlarge", 32, 64, 0, 1.224),
    Instance("r6i.8xlarge", 32, 256, 0, 2.016),
)
CATALOG = Catalog("us-east-1", "2025", "a test", TYPES)


def even(slots: int) -> Sequence[int]:
    """Cut 3,840 image sets, 24 in a chunk or fewer."""
    chunks = max(160, slots)
    return [3840 // chunks] * chunks


def by_type(catalog: Catalog, figures: Figures = FIGURES) -> dict[str, instances.Offer]:
    return {o.instance.type: o for o in offers(catalog, figures, even)}


# --- the table --------------------------------------------------------------------------------


def test_the_table_that_comes_with_bpcp() -> None:
    catalog = load(instances.SHIPPED)
    names = [t.type for t in catalog.types]
    assert len(names) == len(set(names)) > 100
    assert instances.as_text(catalog) == instances.SHIPPED.read_text(encoding="utf-8")
    for kind in catalog.types:
        assert 8 <= kind.vcpus <= 192
        assert kind.memory_gib / kind.vcpus == {"c": 2, "m": 4, "r": 8}[kind.type[0]]
        assert bool(kind.nvme_gb) == kind.family.endswith("d")
        assert 0.03 < kind.usd_h / kind.vcpus < 0.12
    assert (catalog.region, catalog.date) == ("us-east-1", "2025")
    assert "refresh before you decide" in catalog.source


def test_the_users_own_table_goes_first() -> None:
    own = instances.own_file()
    assert own.is_relative_to(os.environ["HOME"])
    own.parent.mkdir(parents=True)
    own.write_text(instances.as_text(replace(CATALOG, date="2031-01-02", speed={"c6a": 1.5})))
    assert load() == replace(CATALOG, date="2031-01-02", speed={"c6a": 1.5})
    assert instances.own_file({"XDG_DATA_HOME": "/d"}) == Path("/d/bpcp/ec2_instances.json")


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t[:-9],
        lambda t: "[]",
        lambda t: t.replace("usd_h", "eur_h"),
        lambda t: t.replace('"vcpus": 8,', '"vcpus": 0,'),
        lambda t: t.replace('"date"', '"day"'),
        lambda t: t.replace('"source"', '"speed": {"c6a": 0}, "source"'),
        lambda t: t.replace(t[t.index('"types"') :], '"types": []}'),
    ],
)
def test_a_broken_table_is_refused(tmp_path: Path, change: Any) -> None:
    path = tmp_path / "own.json"
    path.write_text(change(instances.as_text(CATALOG)))
    assert "--refresh-prices" in refused(Exit.MALFORMED_INPUT, str(path), load, path).todo


# --- the prediction ---------------------------------------------------------------------------


def test_memory_limits_the_slots() -> None:
    found = by_type(CATALOG)
    assert (found["c6a.2xlarge"].prediction.slots, found["c6a.2xlarge"].limit) == (8, "vCPUs")
    assert (found["r6i.8xlarge"].prediction.slots, found["r6i.8xlarge"].limit) == (32, "vCPUs")
    large = by_type(CATALOG, replace(FIGURES, pss_mb=3000))
    assert (large["c6a.8xlarge"].prediction.slots, large["c6a.8xlarge"].limit) == (20, "memory")
    assert large["r6i.8xlarge"].limit == "vCPUs"


def test_longer_chunks_of_fewer_slots_need_more_memory() -> None:
    def sizes(slots: int) -> Sequence[int]:
        return [640 // slots] * slots

    grows = replace(FIGURES, pss_mb=2500, growth_mb=50.0, sets=20)
    (offer,) = offers(replace(CATALOG, types=TYPES[1:2]), grows, sizes)
    need = grows.process_mb(sizes(offer.prediction.slots))
    assert offer.limit == "memory" and need > grows.pss_mb
    assert offer.prediction.slots * need < 64 * 1024


def test_few_chunks_limit_the_slots() -> None:
    (offer,) = offers(replace(CATALOG, types=TYPES[2:]), FIGURES, lambda slots: [24] * 4)
    assert (offer.prediction.slots, offer.limit) == (4, "chunks")


def test_time_and_price() -> None:
    found = by_type(CATALOG)
    small = found["c6a.2xlarge"]
    # 160 chunks of 24 over 8 vCPUs: 20 waves
    assert small.prediction.wall_s == pytest.approx(20 * (4 + 0.3 + 24 * 10.51), rel=0.02)
    assert small.usd == pytest.approx(0.306 * small.prediction.wall_s / 3600)
    faster = by_type(replace(CATALOG, speed={"c6a": 2.0}))
    assert faster["c6a.2xlarge"].prediction.wall_s < 0.55 * small.prediction.wall_s
    assert faster["r6i.8xlarge"] == found["r6i.8xlarge"]


def test_a_minute_is_the_least_that_is_billed() -> None:
    quick = replace(FIGURES, set_s=0.001, start_s=0.1, end_s=0.0, check_s=0.0, plan_s=1.0)
    (offer,) = offers(replace(CATALOG, types=TYPES[:1]), quick, lambda slots: [1])
    assert offer.prediction.wall_s < 60 and offer.usd == pytest.approx(0.306 / 60)


def test_only_what_no_other_beats_is_shown() -> None:
    found = offers(CATALOG, FIGURES, even)
    usd = [o.usd for o in found]
    assert usd == sorted(usd)
    # as many vCPUs, dearer
    assert "r6i.8xlarge" not in [o.instance.type for o in worth_showing(found)]
    shown = worth_showing(offers(load(instances.SHIPPED), FIGURES, even))
    times = [o.prediction.wall_s for o in shown]
    assert 1 < len(shown) < 15 and times == sorted(times, reverse=True)


def test_words() -> None:
    shown = offers(replace(CATALOG, types=TYPES[:1]), FIGURES, even)
    assert words.table(CATALOG, shown) == (
        "\n"
        "EC2 on demand in us-east-1, prices of 2025;\n"
        "a vCPU is taken for a core of this machine, boot and copying are left out\n"
        "type            vCPU   GiB  NVMe GB  at once  limit            time      USD\n"
        "c6a.2xlarge        8    16        –        8  vCPUs      1 h 26 min     0.44\n"
    )


# --- refresh ----------------------------------------------------------------------------------

DESCRIBED = {
    "InstanceTypes": [
        {
            "InstanceType": name,
            "VCpuInfo": {"DefaultVCpus": vcpus},
            "MemoryInfo": {"SizeInMiB": mib},
            **({"InstanceStorageInfo": {"TotalSizeInGB": nvme}} if nvme else {}),
        }
        for name, vcpus, mib, nvme in (
            ("c6id.4xlarge", 16, 32768, 950),
            ("c6i.large", 2, 4096, 0),
            ("c6i.2xlarge", 8, 16384, 0),
            ("c6i.metal", 128, 262144, 0),
        )
    ]
}


def product(name: str, usd: str, unit: str = "Hrs") -> str:
    """Write a product as the price list has it, in parts; each is a text of JSON."""
    return json.dumps(
        {
            "product": {
                "productFamily": "Compute Instance",
                "attributes": {"instanceType": name, "operatingSystem": "Linux"},
                "sku": "2223B6PCG6QAUYY6",
            },
            "serviceCode": "AmazonEC2",
            "terms": {
                "OnDemand": {
                    "2223B6PCG6QAUYY6.JRTCKXETXF": {
                        "priceDimensions": {
                            "2223B6PCG6QAUYY6.JRTCKXETXF.6YS6EN2CT7": {
                                "unit": unit,
                                "description": f"${usd} per On Demand Linux {name}",
                                "pricePerUnit": {"USD": usd},
                            }
                        },
                        "offerTermCode": "JRTCKXETXF",
                    }
                },
                "Reserved": {"x": {"priceDimensions": {"y": {"pricePerUnit": {"USD": "0.1"}}}}},
            },
        }
    )


PRICED = {
    "PriceList": [
        product("c6id.4xlarge", "0.8064000000"),
        product("c6i.2xlarge", "0.3400000000"),
        product("c6i.2xlarge", "0.0000000000"),
        product("c6i.large", "0.0850000000"),
        product("c6i.2xlarge", "9.0", unit="Quantity"),
        product("never.described", "1.0"),
    ]
}


@pytest.fixture
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put an `aws` in place that answers from files and writes down what it was asked."""
    folder = tmp_path / "aws answers"
    folder.mkdir()
    (folder / "ec2").write_text(json.dumps(DESCRIBED))
    (folder / "pricing").write_text(json.dumps(PRICED))
    program = tmp_path / "aws"
    program.write_text(
        f"#!{sys.executable}\n"
        + textwrap.dedent(
            f"""
            import pathlib, sys
            folder = pathlib.Path({str(folder)!r})
            with (folder / "asked").open("a") as file:
                print(*sys.argv[1:], file=file)
            for word in ("ec2", "pricing"):
                if word in sys.argv:
                    answer = folder / word
                    if not answer.exists():
                        print("\\nAn error occurred (AccessDenied): no", file=sys.stderr)
                        sys.exit(254)
                    print(answer.read_text())
            """
        )
    )
    program.chmod(0o755)
    monkeypatch.setattr(s3, "aws_command", lambda: str(program))
    return folder


def test_a_refresh_writes_the_users_table(aws: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shipped = instances.SHIPPED.read_bytes()
    command = ["--refresh-prices", "--region", "eu-west-1", "--profile", "lab"]
    assert profile.main(command) == 0
    assert "2 instance types in eu-west-1" in capsys.readouterr().out
    found = load()
    assert found.types == (
        Instance("c6i.2xlarge", 8, 16, 0, 0.34),
        Instance("c6id.4xlarge", 16, 32, 950, 0.8064),
    )
    assert found.region == "eu-west-1" and len(found.date) == 10
    assert instances.SHIPPED.read_bytes() == shipped
    described, priced = (aws / "asked").read_text().splitlines()
    assert described.startswith("--profile lab --region eu-west-1 ec2 describe-instance-types")
    assert priced.startswith("--profile lab --region us-east-1 pricing get-products")
    assert "Field=regionCode,Value=eu-west-1" in priced


def test_a_speed_that_the_user_measured_stays(aws: Path) -> None:
    refresh("us-east-1", [])
    own = instances.own_file()
    own.write_text(instances.as_text(replace(load(), speed={"c6i": 1.2})))
    refresh("us-east-1", [])
    assert load().speed == {"c6i": 1.2}


def test_a_refusal_of_aws_is_told(aws: Path) -> None:
    (aws / "pricing").unlink()
    error = refused(Exit.UNAVAILABLE, "aws pricing get-products: ", refresh, "us-east-1", [])
    assert "AccessDenied" in str(error) and "pricing:GetProducts" in error.todo
    assert not instances.own_file().exists()


def test_an_answer_that_is_no_json(aws: Path) -> None:
    (aws / "ec2").write_text("<html>")
    refused(Exit.UNAVAILABLE, "aws ec2 describe-instance-types: ", refresh, "us-east-1", [])


def test_no_prices_leave_the_table_as_it_is(aws: Path) -> None:
    refresh("us-east-1", [])
    before = instances.own_file().read_bytes()
    (aws / "pricing").write_text('{"PriceList": []}')
    refused(Exit.MALFORMED_INPUT, "no prices", refresh, "us-east-1", [])
    assert instances.own_file().read_bytes() == before


def test_no_aws_cli(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    refused(Exit.UNAVAILABLE, "the AWS CLI is missing", refresh, "us-east-1", [])


def test_an_aws_that_does_not_answer(
    aws: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sleeper = tmp_path / "sleeper"
    sleeper.write_text("#!/bin/sh\nexec sleep 60\n")
    sleeper.chmod(0o755)
    monkeypatch.setattr(s3, "aws_command", lambda: str(sleeper))
    monkeypatch.setattr(instances, "_TIMEOUT_S", 0.2)
    refused(Exit.UNAVAILABLE, "no answer after 0.2 s", refresh, "us-east-1", [])


def test_prices_are_of_hours_on_demand() -> None:
    assert prices(PRICED) == {
        "c6id.4xlarge": 0.8064,
        "c6i.2xlarge": 0.34,
        "c6i.large": 0.085,
        "never.described": 1.0,
    }


# In a network of its own, which has nothing but a loopback.
AGAINST_MOTO = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from moto.moto_server.threaded_moto_server import ThreadedMotoServer
from bpcp import s3
from bpcp.profile import instances
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
server.start()
url = "http://%s:%d" % server.get_host_and_port()
real = instances._aws
def ask(words):
    # moto has no price list for all types
    return json.loads(Path(sys.argv[2]).read_text()) if "pricing" in words else real(words)
instances._aws = ask
found = instances.refresh("us-east-1", ["--endpoint-url", url])
server.stop()
print(json.dumps([vars(t) for t in found.types]))
"""


def test_types_as_a_server_describes_them(tmp_path: Path) -> None:
    pytest.importorskip("moto.moto_server")
    alone = ["unshare", "-n"] if os.geteuid() == 0 else ["unshare", "-Urn"]
    if (
        shutil.which("ip") is None
        or subprocess.run([*alone, "true"], capture_output=True, check=False).returncode != 0
    ):
        pytest.skip("no network of its own can be made here, and none other may be asked")
    priced = tmp_path / "priced.json"
    priced.write_text(json.dumps(PRICED))
    done = subprocess.run(
        [
            *alone, "sh", "-c", 'ip link set lo up && exec "$0" "$@"',
            sys.executable, "-c", AGAINST_MOTO, str(ROOT), str(priced),
        ],
        env={
            **os.environ,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_EC2_METADATA_DISABLED": "true",
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    types = json.loads(done.stdout.splitlines()[-1])
    assert types == [
        {"type": "c6i.2xlarge", "vcpus": 8, "memory_gib": 16.0, "nvme_gb": 0, "usd_h": 0.34},
        {"type": "c6id.4xlarge", "vcpus": 16, "memory_gib": 32.0, "nvme_gb": 950, "usd_h": 0.8064},
    ]
