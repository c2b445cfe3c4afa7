"""Row "replay": promises over recorded load, ours against the peer's. `python -m tests.bench replay`, minutes.

The nodes: one per curve of examples/curves (seven days of a cluster's average), and, where NEAP_SERIES names a folder
of CSV files with columns timestamp, value (percent of a machine), one on which all of those run side by side. A node
has 64 CPUs; its owners asked for their highest use / 0.65.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path

from neap.virtual.policies import POLICIES
from neap.virtual.replay import Load, Owner, Replayed, replay
from neap.virtual.slices import CURVE_STEP, CURVES, examples_root, read_slices
from tests.bench.measure import Row

CPUS = 64
OWNERS = 8
USED_OF_REQUEST = 0.65


def loads() -> Iterator[Load]:
    """The nodes."""
    curves = read_slices(examples_root()).curves
    for source in CURVES:
        week = [share for name in sorted(curves) if name.startswith(f"{source}/") for share in curves[name]]
        yield _load(source, [(f"{source}-{i}", week, CPUS / OWNERS) for i in range(OWNERS)])
    if folder := os.environ.get("NEAP_SERIES"):
        files = sorted(Path(folder).rglob("*_cpu_utilization_*.csv"))
        yield _load(f"{len(files)} machines", [(file.stem, _column(file), CPUS / len(files)) for file in files])


def _load(name: str, owners: list[tuple[str, list[float], float]]) -> Load:
    least = min(len(shares) for _, shares, _ in owners)
    return Load(
        name,
        CPUS,
        CURVE_STEP,
        tuple(
            Owner(
                owner, min(0.95, max(shares) / USED_OF_REQUEST) * cpus, tuple(share * cpus for share in shares[:least])
            )
            for owner, shares, cpus in owners
        ),
    )


def _column(file: Path) -> list[float]:
    with file.open(newline="") as lines:
        return [min(1.0, float(row["value"]) / 100) for row in csv.DictReader(lines)]


def rows() -> Iterator[Row]:
    """Kept, churn and evictions of each node, and what they are held against."""
    for load in loads():
        ours, peer = replay(load, POLICIES["neap"]), replay(load, POLICIES["peer"])
        shares = f"promised {ours.promised:.0%} of the node, offered {ours.offered:.0%}, peer {peer.offered:.0%}"
        note = f"{ours.days:.0f} days, owners {ours.owners:.0%}; {shares}"
        yield Row(
            name=f"replay {load.node}: promised for 10 min and kept", value=100 * ours.kept, unit="%", rival="peer",
            rival_value=100 * peer.kept, at_least=99, note=note,
        )  # fmt: skip
        yield _less(load, "churn of the offer, 5 min, p99", 100 * ours.churn, 100 * peer.churn, "% of the node", 10)
        yield _less(load, "evictions", ours.evictions_per_guest_day, peer.evictions_per_guest_day, "per guest-day")
        yield Row(
            name=f"replay {load.node}: utilisation", value=100 * ours.utilisation, unit="%", rival="peer",
            rival_value=100 * peer.utilisation, ratio=ours.utilisation / peer.utilisation, at_least=1, note=_room(ours, peer),
        )  # fmt: skip


def _less(load: Load, what: str, ours: float, peer: float, unit: str, most: float | None = None) -> Row:
    """What is to be at most the peer's, and at most so much."""
    goal = peer if most is None else min(peer, most)
    return Row(name=f"replay {load.node}: {what}", value=ours, unit=unit, rival="peer", rival_value=peer, at_most=goal)


def _room(ours: Replayed, peer: Replayed) -> str:
    return f"the hardware had what was promised: {ours.room:.2%}, peer {peer.room:.2%}"
