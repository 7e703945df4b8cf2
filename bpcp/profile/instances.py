"""EC2 instance types: what they have and cost, and what a data set would take on each.

The table that comes with bpcp ages; `bpcp profile --refresh-prices` writes one of the user's own.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any

from bpcp import s3
from bpcp.errors import BpcpError, Exit
from bpcp.profile.figures import Figures, Prediction, predict
from bpcp.slots import fit
from bpcp.workspace import Json, read_json, write_text

SHIPPED = Path(__file__).with_name("ec2_instances.json")
# What the system of an instance leaves of its memory, at most.
_USABLE = 0.97
_VCPUS = range(8, 193)
# The price list is served from here for all regions.
_PRICING_REGION = "us-east-1"
_TIMEOUT_S = 300


@dataclass(frozen=True)
class Instance:
    """An instance type.

    Attributes
    ----------
    nvme_gb : int
        Local disks together; 0 where it has none.
    usd_h : float
        On demand, Linux, an hour.
    """

    type: str
    vcpus: int
    memory_gib: float
    nvme_gb: int
    usd_h: float

    @property
    def family(self) -> str:
        """The name before the dot: "c7i"."""
        return self.type.partition(".")[0]


@dataclass(frozen=True)
class Catalog:
    """A table of instance types.

    Attributes
    ----------
    speed : mapping of str to float
        How much faster a vCPU of a family is than a core of this machine; 1 where it is not
        there, for nobody but the user can have measured it.
    """

    region: str
    date: str
    source: str
    types: tuple[Instance, ...]
    speed: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Offer:
    """A data set on an instance type."""

    instance: Instance
    limit: str
    prediction: Prediction
    usd: float


def own_file(environ: Mapping[str, str] = os.environ) -> Path:
    """Say where the user's own table is, or would be."""
    home = environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(home) / "bpcp" / SHIPPED.name


def load(path: Path | None = None) -> Catalog:
    """Read the user's own table, or the one that comes with bpcp where there is none.

    Raises
    ------
    BpcpError
        65 where it is not such a table.
    """
    path = path or (own_file() if own_file().is_file() else SHIPPED)
    try:
        found = read_json(path)
        if found is None:
            raise ValueError("not a JSON object")
        types = tuple(Instance(**row) for row in found["types"])
        speed = {str(k): float(v) for k, v in found.get("speed", {}).items()}
        if (
            min(t.vcpus * t.memory_gib * t.usd_h for t in types) <= 0
            or min(speed.values(), default=1.0) <= 0
        ):
            raise ValueError("vcpus, memory_gib, usd_h and speed are more than 0")
        return Catalog(found["region"], found["date"], found["source"], types, speed)
    except (KeyError, TypeError, ValueError) as error:
        raise BpcpError(
            Exit.MALFORMED_INPUT,
            f"{path}: not a table of instance types ({error})",
            "bpcp profile --refresh-prices writes a new one; or remove it",
        ) from None


def offers(
    catalog: Catalog, figures: Figures, sizes: Callable[[int], Sequence[int]]
) -> list[Offer]:
    """Predict a data set on every type, the cheapest first.

    Parameters
    ----------
    sizes : callable
        Gives the image sets of each chunk for so many slots.
    """
    cut = cache(sizes)
    found = []
    for instance in catalog.types:
        slots, limit = instance.vcpus, "vCPUs"
        free_mb = instance.memory_gib * 1024 * _USABLE
        # fewer slots may make longer chunks, and these need more memory
        while (carried := fit(free_mb, figures.process_mb(cut(slots)))) < slots:
            slots, limit = carried, "memory"
        chunks = cut(slots)
        if len(chunks) < slots:
            limit = "chunks"
        faster = catalog.speed.get(instance.family, 1.0)
        prediction = predict(figures.faster(faster), chunks, slots)
        # billed by the second, a minute at least
        usd = instance.usd_h * max(60.0, prediction.wall_s) / 3600
        found.append(Offer(instance, limit, prediction, usd))
    return sorted(found, key=lambda o: (o.usd, o.prediction.wall_s, o.instance.type))


def worth_showing(found: Sequence[Offer]) -> list[Offer]:
    """Leave out what another type does as soon for less; the cheapest comes first."""
    shown: list[Offer] = []
    for offer in found:
        if not shown or offer.prediction.wall_s < 0.99 * shown[-1].prediction.wall_s:
            shown.append(offer)
    return shown


# --- refresh ----------------------------------------------------------------------------------


def refresh(region: str, options: Sequence[str], target: Path | None = None) -> Catalog:
    """Ask AWS for the types of the families at hand and their prices, and write the user's table.

    Parameters
    ----------
    region : str
        Where the instances would run.
    options : sequence of str
        For the AWS CLI: --profile, --endpoint-url.

    Raises
    ------
    BpcpError
        69 where there is no AWS CLI or it does not answer; 65 where its answer has no prices.
    """
    families = sorted({t.family for t in load(SHIPPED).types})
    names = "Name=instance-type,Values=" + ",".join(f"{family}.*" for family in families)
    described = _aws(
        [*options, "--region", region, "ec2", "describe-instance-types", "--filters", names]
    )
    priced = _aws(
        [
            *options,
            *("--region", _PRICING_REGION, "pricing", "get-products"),
            *("--service-code", "AmazonEC2", "--filters"),
            *(
                f"Type=TERM_MATCH,Field={name},Value={value}"
                for name, value in (
                    ("regionCode", region),
                    ("operatingSystem", "Linux"),
                    ("preInstalledSw", "NA"),
                    ("tenancy", "Shared"),
                    ("capacitystatus", "Used"),
                )
            ),
        ]
    )
    usd_h = prices(priced)
    types = [
        _instance(row, usd_h[row["InstanceType"]])
        for row in described.get("InstanceTypes", [])
        if row["InstanceType"] in usd_h and row["VCpuInfo"]["DefaultVCpus"] in _VCPUS
    ]
    if not types:
        raise BpcpError(
            Exit.MALFORMED_INPUT,
            f"AWS names no prices of {', '.join(families)} in {region}",
            "see --region; the table in use stays as it is",
        )
    target = target or own_file()
    speed = load(target).speed if target.is_file() else {}
    catalog = Catalog(
        region,
        datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "on-demand list prices, Linux, from the AWS price list",
        tuple(sorted(types, key=lambda t: (t.family, t.vcpus, t.type))),
        speed,
    )
    write_text(target, as_text(catalog))
    return catalog


def as_text(catalog: Catalog) -> str:
    """Write a table so that a person can read and edit it: a line for each type."""
    head: Json = {"region": catalog.region, "date": catalog.date, "source": catalog.source}
    if catalog.speed:
        head["speed"] = dict(catalog.speed)
    lines = [f" {json.dumps(k)}: {json.dumps(v)}," for k, v in head.items()]
    rows = ",\n".join("  " + json.dumps(vars(t)) for t in catalog.types)
    return "\n".join(["{", *lines, ' "types": [', rows, " ]", "}", ""])


def _instance(row: Json, usd_h: float) -> Instance:
    memory_gib = row["MemoryInfo"]["SizeInMiB"] / 1024
    nvme_gb = int(row.get("InstanceStorageInfo", {}).get("TotalSizeInGB", 0))
    return Instance(
        row["InstanceType"], row["VCpuInfo"]["DefaultVCpus"], memory_gib, nvme_gb, usd_h
    )


def prices(answer: Json) -> dict[str, float]:
    """Read the on-demand prices from an answer of `aws pricing get-products`, in USD an hour."""
    found: dict[str, float] = {}
    for text in answer.get("PriceList", []):
        product = json.loads(text) if isinstance(text, str) else text
        name = product["product"]["attributes"].get("instanceType")
        for term in product.get("terms", {}).get("OnDemand", {}).values():
            for dimension in term["priceDimensions"].values():
                usd = float(dimension["pricePerUnit"].get("USD", 0))
                # reserved capacity that is not used is listed too, at 0
                if name and dimension["unit"] == "Hrs" and usd > 0:
                    found[name] = usd
    return found


def _aws(words: Sequence[str]) -> Json:
    program = s3.aws_command()
    service = " ".join(words[words.index("--region") + 2 :][:2])
    try:
        done = subprocess.run(
            [program, *words, "--output", "json"],
            env={"AWS_RETRY_MODE": "standard", "AWS_MAX_ATTEMPTS": "3", **os.environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            check=False,
        )
        if done.returncode == 0:
            answer: Any = json.loads(done.stdout)
            return dict(answer)
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        why = lines[-1] if lines else f"exit code {done.returncode}"
    except subprocess.TimeoutExpired:
        why = f"no answer after {_TIMEOUT_S} s"
    except (OSError, ValueError) as error:
        why = str(error)
    raise BpcpError(
        Exit.UNAVAILABLE,
        f"aws {service}: {why}",
        "see --profile and the permissions ec2:DescribeInstanceTypes and pricing:GetProducts",
    )
