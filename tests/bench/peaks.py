"""Peak prediction for over-commitment: the published predictors and ours, protocol 3 of the series' README; no speed.

python -m tests.bench peaks             (a minute of CPU; writes build/peaks.json and docs/figures/peaks.svg)

Ours is judged as a curve: each published point is dominated if some margin has no more violations, no more severity and
no less savings. That is done on the reference's grouping, and, so that nothing hangs on it, on VMs in other orders, days
cut elsewhere, hosts of 10 and 40, and VMs made of other series: the other NAB files, two clusters' tides, made-up ones.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from neap.common.runtime.plugins import load
from neap.foresight.peaking import Outcome, Predictor, judged, moments, replayed
from neap.foresight.peaks import limit_share, max_of, nsigma, ranges, rc_like
from neap.foresight.series import Values
from tests.bench.measure import Row
from tests.bench.peaks_figure import draw

ROOT: Final = Path(__file__).resolve().parents[2]
SERIES: Final = ROOT.parent / "shared" / "data" / "series"
OUT: Final = ROOT / "build" / "peaks.json"
FIGURE: Final = ROOT / "docs" / "figures" / "peaks.svg"
DAY: Final = 288  # samples
LIMIT: Final = 100.0
RIVALS: Final[Mapping[str, Predictor]] = {
    "limit90": limit_share.PLUGIN,
    "ns5": nsigma.PLUGIN,
    "ns3": nsigma.PLUGIN.at(3.0),
    "rc99": rc_like.PLUGIN,
    "rc95": rc_like.PLUGIN.at(95.0),
    "max5_99": max_of.PLUGIN,
}
SHOWN: Final = (0.35, 0.55, 0.8)  # margins that are named to people
MARGINS: Final = (*(n / 40 for n in range(60)), *(n / 4 for n in range(6, 25)))


@cache
def nab_cpu() -> Values:
    """The ten CPU series in file-name order. Shape (10, 4032)."""
    files = [*(SERIES / "nab").rglob("ec2_cpu_utilization_*.csv"), *(SERIES / "nab").rglob("rds_cpu_utilization_*.csv")]
    return np.array([_column(file, "value") for file in sorted(files, key=lambda file: file.name)])


def pseudo_vms(series: Values, offset: int = 0) -> Values:
    """A day each, by day and then by series, capped at the limit. Shape (days * series, DAY)."""
    days = (series.shape[1] - offset) // DAY
    cut = np.minimum(series[:, offset : offset + days * DAY], LIMIT)
    return np.asarray(cut.reshape(len(series), days, DAY).transpose(1, 0, 2).reshape(-1, DAY))


def hosted(vms: Values, size: int = 20) -> Values:
    """So many consecutive ones to a host, those left over to none. Shape (hosts, size, DAY)."""
    count = len(vms) // size
    return vms[: count * size].reshape(count, size, -1)


def outcome(predictor: Predictor, hosts: Values) -> Outcome:
    """The three measures."""
    return replayed(predictor, hosts, np.full(hosts.shape[:2], LIMIT))


def curve_of(hosts: Values) -> dict[float, Outcome]:
    """Ours over its margin; the same as `outcome` of each, which a test holds it to, with the past looked at once."""
    limits = np.full(hosts.shape[:2], LIMIT)
    seen = [(*ranges.parts(known), known.now, true) for known, true in moments(hosts, limits)]
    level, spread, now, true = (np.array(each) for each in zip(*seen, strict=True))
    limit = limits.sum(axis=1)
    return {
        margin: judged(np.minimum(np.maximum(level + margin * spread, now), limit), true, limit) for margin in MARGINS
    }


def groupings() -> Iterator[tuple[str, str, Values]]:
    """Kind, name and hosts: what is judged beside the reference."""
    vms = pseudo_vms(nab_cpu())
    yield "reference", "reference", hosted(vms)
    for seed in range(10):
        yield "other orders", f"order {seed}", hosted(_shuffled(vms, seed))
    for offset in (48, 96, 144, 192, 240):
        yield "days cut elsewhere", f"from sample {offset}", hosted(pseudo_vms(nab_cpu(), offset))
    for size in (10, 40):
        yield f"hosts of {size}", f"{size}", hosted(vms, size)
        for seed in range(3):
            yield f"hosts of {size}", f"{size}, order {seed}", hosted(_shuffled(vms, 100 * size + seed), size)
    for seed in range(3):
        yield "other NAB series", f"seed {seed}", hosted(_shuffled(_other_nab(), seed))
    for name, series in _tides().items():
        for seed in range(2):
            yield f"{name}, any day", f"seed {seed}", hosted(_following(series, 140, seed, together=False))
            yield f"{name}, one tide", f"seed {seed}", hosted(_following(series, 140, seed, together=True))
    for seed in range(2):
        for name, made in _made_up(seed).items():
            yield name, f"seed {seed}", hosted(made)
        mixed = [_shuffled(vms, seed)[:60], *_made_up(seed, 20).values()]
        yield "mixed", f"seed {seed}", hosted(_shuffled(np.concatenate(mixed), seed + 9))


def rows() -> Iterator[Row]:
    """The table, and beside it build/peaks.json and the figure."""
    told: dict[str, Any] = {}
    reference = hosted(pseudo_vms(nab_cpu()))
    expected = json.loads((SERIES / "reference.json").read_text())["overcommit"]["predictors"]
    rivals = {name: outcome(predictor, reference) for name, predictor in RIVALS.items()}
    for name, found in rivals.items():
        yield from _row(f"peaks, {name}", found, note=f"reference {expected[name]}")
    for margin in SHOWN:
        found = outcome(ranges.PLUGIN.at(margin), reference)
        beaten = [name for name, other in rivals.items() if found.dominates(other)]
        yield from _row(f"peaks, ours at {margin:g}", found, note=f"dominates {', '.join(beaten) or 'none'}")
    curve = curve_of(reference)
    told |= {"rivals": rivals, "ours": {f"{margin:.2f}": found for margin, found in curve.items()}}
    told["groupings"], shares = _held_against(groupings())
    for kind, (count, points) in shares.items():
        yield Row(
            name=f"peaks, dominated: {kind}", value=100 * count / points, unit="%", note=f"{count} of {points} points"
        )
    every = sum(count for count, _ in shares.values()) / sum(points for _, points in shares.values())
    yield Row(name="peaks, dominated over all groupings", value=100 * every, unit="%")
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_bytes(msgspec.json.format(msgspec.json.encode(told)))
    FIGURE.write_text(draw(curve, rivals, SHOWN))


def _held_against(groups: Iterator[tuple[str, str, Values]]) -> tuple[list[Any], dict[str, tuple[int, int]]]:
    """By grouping what is dominated by some margin; by kind, how many points of how many."""
    told, shares = list[Any](), dict[str, tuple[int, int]]()
    for kind, name, hosts in groups:
        curve = curve_of(hosts)
        rivals = {rival: outcome(predictor, hosts) for rival, predictor in RIVALS.items()}
        by = {
            rival: [margin for margin, found in curve.items() if found.dominates(point)]
            for rival, point in rivals.items()
        }
        told.append({"kind": kind, "name": name, "rivals": rivals, "dominated_by_margins": by})
        count, points = shares.get(kind, (0, 0))
        shares[kind] = count + sum(bool(margins) for margins in by.values()), points + len(by)
    return told, shares


def _row(name: str, found: Outcome, *, note: str) -> Iterator[Row]:
    yield Row(name=f"{name}: violation", value=found.violation, unit="%", note=note)
    yield Row(name=f"{name}: severity", value=found.severity, unit="%")
    yield Row(name=f"{name}: savings", value=found.savings, unit="%")


def plugins() -> Mapping[str, Predictor]:
    """All that are installed, as services load them."""
    return load("neap.foresight.peaks", Predictor)


# -- VMs made of other things ----------------------------------------------------------------------------------------


def _column(file: Path, name: str) -> Values:
    with file.open(newline="") as lines:
        return np.array([float(row[name]) for row in csv.DictReader(lines)])


def _shuffled(vms: Values, seed: int) -> Values:
    return np.asarray(vms[np.random.default_rng(seed).permutation(len(vms))])


@cache
def _other_nab() -> Values:
    """Every other NAB file, scaled so that its highest value is the limit; at most 14 days of each."""
    days = []
    for file in sorted((SERIES / "nab").rglob("*.csv")):
        if "cpu_utilization" in file.name or file.name == "reference_scores.csv":
            continue
        series = np.maximum(0.0, _column(file, "value"))
        days += [LIMIT * series[i * DAY : (i + 1) * DAY] / series.max() for i in range(min(14, len(series) // DAY))]
    return np.array(days)


@cache
def _tides() -> Mapping[str, Values]:
    """CPU use of two clusters."""
    cluster = SERIES / "cluster"
    return {
        "google2019": _column(next(cluster.glob("google2019_*.csv")), "avg_cpu"),
        "ali2018": _column(next(cluster.glob("ali2018_*.csv")), "cpu_util_percent"),
    }


def _following(series: Values, count: int, seed: int, *, together: bool) -> Values:
    """VMs that follow a cluster's days, each with a size and a noise of its own; `together`: all of a host one day."""
    chance, days = np.random.default_rng(seed), len(series) // DAY
    course = series[: days * DAY].reshape(days, DAY) / series.mean()
    made = []
    for number in range(count):
        noise, walk = chance.normal(0, 0.1 * np.sqrt(1 - 0.81), DAY), np.zeros(DAY)
        for step in range(1, DAY):
            walk[step] = 0.9 * walk[step - 1] + noise[step]
        day = number // 20 % days if together else int(chance.integers(days))
        made.append(np.clip(course[day] * chance.uniform(5, 50) * (1 + walk), 0, LIMIT))
    return np.array(made)


def _made_up(seed: int, count: int = 140) -> dict[str, Values]:
    """Bursts of heavy-tailed length, plain noise, random walks, and batch work that comes and goes."""
    chance = np.random.default_rng(seed)
    flat = chance.uniform(5, 60, (count, 1)) + chance.normal(0, 1, (count, DAY)) * chance.uniform(0.5, 8, (count, 1))
    steps = chance.normal(0, 1, (count, DAY)) * chance.uniform(0.2, 1.5, (count, 1))
    return {
        "bursts": np.array([_bursts(chance) for _ in range(count)]),
        "noise": np.clip(flat, 0, LIMIT),
        "walks": np.clip(chance.uniform(20, 50, (count, 1)) + np.cumsum(steps, axis=1), 0, LIMIT),
        "batches": np.array([_batches(chance) for _ in range(count)]),
    }


def _bursts(chance: np.random.Generator) -> Values:
    course, at = np.full(DAY, chance.uniform(1, 15)), 0
    while at < DAY:
        at += int(chance.pareto(1.5) * 20) + 1
        lasts = int(chance.pareto(1.5) * 3) + 1
        course[at : at + lasts] += chance.uniform(20, 85)
        at += lasts
    return np.clip(course + chance.normal(0, 1, DAY), 0, LIMIT)


def _batches(chance: np.random.Generator) -> Values:
    course, at = np.zeros(DAY), 0
    while at < DAY:
        lasts = int(chance.exponential(60)) + 6
        course[at : at + lasts] = chance.uniform(0, 60)
        at += lasts
    return np.clip(course + chance.normal(0, 2, DAY), 0, LIMIT)
