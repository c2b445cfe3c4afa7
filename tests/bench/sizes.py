"""Sizes of requests, replayed: what each rule would have left unused, and how often it would have been too small.

Protocol 4 of ../shared/data/series/README.md, word for word, on its 13 series: the three rules of its table from the
samples themselves, to the last digit; ours from what the planner keeps (a histogram and two rings of hours), and from
the samples. Then ours with other constants, one at a time, and both on series outside the exam: the other files of the
collection, the 13 backwards and with their days shuffled, and made-up ones. Ours was designed with all of them in
sight, the exam included, so none of these figures is a forecast for series nobody has seen; those outside are nearer.

    python -m tests.bench sizes        (half a minute; needs ../shared)
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Final

import numpy as np

from neap.foresight.histogram import CPU, Buckets
from neap.foresight.replay import Replayed, replay
from neap.foresight.rule import Rule
from neap.foresight.series import Series, Values
from neap.foresight.sizes import highest, katalyst, max_of_day, p99_of_week, snug, vpa_like
from tests.bench.measure import Row
from tests.conftest import SHARED

FOLDER: Final = SHARED / "data" / "series"
STEP: Final = 300.0
ALI, GOOGLE = (
    "ali2018_machine_usage_days_1_to_8_grouped_300_seconds",
    "google2019_instance_usage_grouped_300_seconds_month",
)
REFERENCE_RULES: Final[Mapping[str, Rule]] = {
    "vpa": vpa_like.PLUGIN, "max1d": max_of_day.PLUGIN, "p99_7d": p99_of_week.PLUGIN,
}  # fmt: skip
NEIGHBOURS: Final[Mapping[str, Rule]] = {
    "window 18 h": replace(snug.PLUGIN, window=18 * 3600.0),
    "window 36 h": replace(snug.PLUGIN, window=36 * 3600.0),
    "drawn in to 1/2 of the margin": replace(snug.PLUGIN, drawn=0.5),
    "drawn in to 4/5 of the margin": replace(snug.PLUGIN, drawn=0.8),
    "step 1/6 of the margin": replace(snug.PLUGIN, step=1 / 6),
    "step 1/2 of the margin": replace(snug.PLUGIN, step=0.5),
    "step after 1/3 of an hour": replace(snug.PLUGIN, most=1 / 3),
    "step after 3/4 of an hour": replace(snug.PLUGIN, most=0.75),
    "no step": replace(snug.PLUGIN, most=2.0),
    "debt 1 h": replace(snug.PLUGIN, debt=1.0),
    "no account": replace(snug.PLUGIN, debt=1e9),
    "account fades in 14 d": replace(snug.PLUGIN, fades=14 * 86400.0),
    "loose 1.10": replace(snug.PLUGIN, loose=1.1),
}


def rows() -> Iterator[Row]:
    """The table."""
    series, told = exam(), reference()
    agree = sum(
        percents(replay(rule, line(series[name]), exact=True)) == tuple(told["series"][name][key])
        for key, rule in REFERENCE_RULES.items()
        for name in series
    )
    yield Row(name="reference rules, lines as published", value=agree, unit=f"of {3 * len(series)}", at_least=39)
    ours = {name: percents(replay(snug.PLUGIN, line(values))) for name, values in series.items()}
    exact = {name: percents(replay(snug.PLUGIN, line(values), exact=True)) for name, values in series.items()}
    vpa = {name: tuple(told["series"][name]["vpa"]) for name in series}
    for name in series:
        better = "no worse in both" if no_worse(ours[name], vpa[name]) else "-"
        note = (
            f"exceed {ours[name][1]} against {vpa[name][1]}; changes {ours[name][2]} against {vpa[name][2]}; {better}"
        )
        yield Row(
            name=f"{name}: slack", value=ours[name][0], unit="%", rival="VPA", rival_value=vpa[name][0], note=note
        )
    for label, found in (("ours", ours), ("ours from samples", exact)):
        yield from _medians(label, found, vpa)
    others: dict[str, Rule] = {"katalyst": katalyst.PLUGIN, "highest": highest.PLUGIN}
    for name, rule in others.items():
        found = {each: percents(replay(rule, line(values))) for each, values in series.items()}
        yield _summary(f"{name}: slack, median", found, vpa)
    for name, rule in NEIGHBOURS.items():
        found = {each: percents(replay(rule, line(values))) for each, values in series.items()}
        yield _summary(f"ours, {name}: slack, median", found, vpa)
    for group, members in elsewhere().items():
        yield _group(group, members)


def _medians(label: str, found: Mapping[str, tuple[float, ...]], vpa: Mapping[str, tuple[float, ...]]) -> Iterator[Row]:
    middle, theirs = np.median([*found.values()], axis=0), np.median([*vpa.values()], axis=0)
    for place, (what, unit, most) in enumerate(
        (("slack", "%", 22.7), ("exceed", "%", 1.34), ("changes", "a day", 1.0))
    ):
        yield Row(
            name=f"{label}: {what}, median", value=float(middle[place]), unit=unit, rival="VPA",
            rival_value=float(theirs[place]), at_most=most,
        )  # fmt: skip
    count = sum(no_worse(found[name], vpa[name]) for name in found)
    yield Row(name=f"{label}: no worse in slack and exceed", value=count, unit=f"of {len(found)} series", at_least=10)


def _summary(name: str, found: Mapping[str, tuple[float, ...]], vpa: Mapping[str, tuple[float, ...]]) -> Row:
    middle, theirs = np.median([*found.values()], axis=0), np.median([*vpa.values()], axis=0)
    count = sum(no_worse(found[each], vpa[each]) for each in found)
    note = f"exceed {middle[1]:.2f}, changes {middle[2]:.2f}; no worse on {count} of {len(found)}"
    return Row(name=name, value=float(middle[0]), unit="%", rival="VPA", rival_value=float(theirs[0]), note=note)


def _group(group: str, members: Mapping[str, Values]) -> Row:
    ours, exact, vpa = {}, {}, {}
    for name, values in members.items():
        buckets = CPU if group in ("backwards", "days shuffled") else grid(values)
        ours[name] = percents(replay(snug.PLUGIN, line(values), buckets=buckets))
        exact[name] = percents(replay(snug.PLUGIN, line(values), exact=True, buckets=buckets))
        vpa[name] = percents(replay(vpa_like.PLUGIN, line(values), exact=True, buckets=buckets))
    middle, theirs = np.median([*ours.values()], axis=0), np.median([*vpa.values()], axis=0)
    mean = np.mean([*ours.values()], axis=0) - np.mean([*vpa.values()], axis=0)
    worse = sum(ours[each][0] > vpa[each][0] and ours[each][1] > vpa[each][1] for each in ours)
    note = (
        f"exceed {middle[1]:.2f} against {theirs[1]:.2f}; mean {mean[0]:+.1f} slack, {mean[1]:+.2f} exceed; no worse in both on "
        f"{sum(no_worse(exact[each], vpa[each]) for each in exact)} of {len(ours)} from samples, "
        f"{sum(no_worse(ours[each], vpa[each]) for each in ours)} from the histogram; worse in both on {worse}"
    )
    return Row(
        name=f"elsewhere, {group}: slack, median", value=float(middle[0]), unit="%", rival="VPA",
        rival_value=float(theirs[0]), note=note,
    )  # fmt: skip


# -- series --------------------------------------------------------------------------------------------------------------


def reference() -> dict[str, dict[str, dict[str, list[float]]]]:
    """The published table."""
    told: dict[str, dict[str, dict[str, list[float]]]] = json.loads((FOLDER / "reference.json").read_text())[
        "recommendation"
    ]
    return told


@lru_cache
def exam() -> dict[str, Values]:
    """The 13 series, by name."""
    names = sorted((FOLDER / "nab" / "realAWSCloudwatch").glob("*_cpu_utilization_*.csv"))
    found = {path.stem: column(f"nab/realAWSCloudwatch/{path.stem}", "value") for path in names}
    found["ali2018 cpu"] = column(f"cluster/{ALI}", "cpu_util_percent")
    found["google2019 cpu"] = column(f"cluster/{GOOGLE}", "avg_cpu")
    found["google2019 mem"] = column(f"cluster/{GOOGLE}", "avg_mem")
    return found


def column(name: str, key: str) -> Values:
    """One column of one file."""
    with (FOLDER / f"{name}.csv").open() as file:
        return np.array([float(row[key]) for row in csv.DictReader(file)])


def elsewhere() -> dict[str, dict[str, Values]]:
    """Series outside the exam, by group."""
    known = exam()
    draw = np.random.default_rng(7)
    files = [path for path in sorted((FOLDER / "nab").glob("real*/*.csv")) if path.stem not in known]
    other = {path.stem: column(f"nab/{path.parent.name}/{path.stem}", "value")[:8064] for path in files}
    other |= {f"ali2018 {key}": column(f"cluster/{ALI}", key) for key in ("mem_util_percent", "disk_io_percent")}
    other |= {
        f"google2019 {key}": column(f"cluster/{GOOGLE}", key)
        for key in ("avg_assigned_mem", "avg_cycles_per_instruction")
    }
    return {
        "other files": {name: values for name, values in other.items() if values.min() >= 0},
        "backwards": {name: values[::-1].copy() for name, values in known.items()},
        "days shuffled": {name: _shuffled(values, draw) for name, values in known.items()},
        "made up": dict(made_up()),
    }


def _shuffled(values: Values, draw: np.random.Generator) -> Values:
    days = values[: len(values) // 288 * 288].reshape(-1, 288)
    return days[draw.permutation(len(days))].ravel()


def made_up(count: int = 4032) -> Iterator[tuple[str, Values]]:
    """Two weeks of steps, trends, tides, weeks, spikes and walks."""
    time = np.arange(count)
    for seed in range(4):
        draw = np.random.default_rng(seed)
        day, noise = np.sin(2 * np.pi * time / 288), draw.gamma(50, 1 / 50, count)
        yield f"tide {seed}", np.maximum(0.05, 2 + day * (0.5 + 0.2 * seed) + draw.normal(0, 0.15, count))
        yield f"step {seed}", np.where(time < count * draw.uniform(0.3, 0.7), 1, 1 + draw.uniform(-0.6, 1.5)) * noise
        yield f"steps {seed}", np.repeat(draw.uniform(0.5, 3, count // 400 + 1), 400)[:count] * noise
        yield f"trend {seed}", (1 + draw.uniform(-0.5, 1.5) * time / count) * noise
        yield f"week {seed}", np.where((time // 288) % 7 < 5, 1, 0.5) * (1.5 + day) * noise + 0.1
        spike = np.convolve(draw.random(count) < 0.004, np.ones(1 + seed * 4))[:count] > 0
        yield f"spikes {seed}", draw.gamma(20, 0.02, count) + spike * draw.uniform(1, 5, count)
        yield f"walk {seed}", np.exp(np.cumsum(draw.normal(0, 0.01, count))) * noise
        yield f"heavy tail {seed}", draw.lognormal(0, 0.4 + 0.2 * seed, count)


def grid(values: Values) -> Buckets:
    """Buckets as fine for this unit as those of CPU are for a core."""
    usual = float(np.median(values)) or float(values.mean()) or 1.0
    return Buckets(usual / 50, usual * 2000)


def line(values: Values) -> Series:
    """A series from the beginning of time."""
    return Series(0.0, STEP, values)


def percents(found: Replayed) -> tuple[float, float, float]:
    """Slack and exceed in percent, changes a day, as published."""
    return round(100 * found.slack, 2), round(100 * found.exceed, 2), round(found.changes_per_day, 2)


def no_worse(ours: tuple[float, ...], theirs: tuple[float, ...]) -> bool:
    """In slack and in exceed at once."""
    return ours[0] <= theirs[0] and ours[1] <= theirs[1]
