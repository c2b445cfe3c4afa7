"""Forecasts and what a tide gains by them: protocols 1 and 2 of the series' README, word for word; no speed but one line.

python -m tests.bench forecasts         (some minutes; writes build/forecasts.json and docs/figures/tide-room.svg)

Every origin is one call of what the planner calls, with the series cut there: nothing after it can be looked at.
CloudWatch's files have missing and repeated time stamps: they are put on their grid first, holes stay unknown.
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from neap.foresight.cleaning import onto_grid
from neap.foresight.forecasting import forecast
from neap.foresight.past import last_known
from neap.foresight.series import Series, Values
from tests.bench.forecasts_figure import draw
from tests.bench.measure import Row

ROOT: Final = Path(__file__).resolve().parents[2]
SERIES: Final = ROOT.parent / "shared" / "data" / "series"
OUT: Final = ROOT / "build" / "forecasts.json"
FIGURE: Final = ROOT / "docs" / "figures" / "tide-room.svg"
STEP, DAY, FIRST, EVERY = 300.0, 288, 576, 12
HORIZONS: Final = {"1h": 12, "1d": 288}
CLUSTERS: Final = {
    "ali2018": ("cpu_util_percent", "mem_util_percent", "disk_io_percent"),
    "google2019": ("avg_cpu", "avg_mem", "avg_assigned_mem", "avg_cycles_per_instruction"),
}
GOALS: Final = {  # percent
    ("ali2018 cpu_util_percent", "1d"): 13.9, ("ali2018 cpu_util_percent", "1h"): 12.4,
    ("google2019 avg_cpu", "1d"): 6.3, ("google2019 avg_cpu", "1h"): 4.85,
}  # fmt: skip
SLACK: Final = 1.02  # of the better of the two everybody knows, on all other series
TIDES: Final = {"ali2018 cpu_util_percent": 1.0, "google2019 avg_cpu": 100.0}  # factor to percent
CEILING: Final = 75.0
MARGINS: Final = tuple(np.arange(0.0, 20.01, 0.25).tolist())


@cache
def all_series() -> Mapping[str, Values]:
    """Every series of the protocol, by name."""
    told: dict[str, Values] = {}
    for cluster, columns in CLUSTERS.items():
        (file,) = (SERIES / "cluster").glob(f"{cluster}_*.csv")
        with file.open(newline="") as text:
            rows = list(csv.DictReader(text))
        told |= {f"{cluster} {column}": np.array([float(row[column]) for row in rows]) for column in columns}
    for file in sorted((SERIES / "nab" / "realAWSCloudwatch").glob("*.csv")):
        with file.open(newline="") as text:
            lines = [(row["timestamp"], float(row["value"])) for row in csv.DictReader(text)]
        times = [datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp() for at, _ in lines]
        told[f"nab {file.stem}"] = onto_grid(times, [value for _, value in lines], STEP)[0].values
    return told


def rows() -> Iterator[Row]:
    """Error by series and horizon beside the references', then the tides."""
    found: dict[str, Any] = {"forecast": {}, "tidal": {}}
    began, made = time.process_time(), 0
    for name, values in all_series().items():
        told = replay(values)
        made += len(told)
        for horizon, count in HORIZONS.items():
            ours, naive, seasonal = errors(values, told, count)
            better = "naive" if naive <= seasonal else "seasonal naive"
            best = min(naive, seasonal)
            card = {"neap": round(ours, 2), "naive": round(naive, 2), "seasonal": round(seasonal, 2)}
            found["forecast"].setdefault(name, {})[horizon] = card
            yield Row(
                name=f"MAPE {name}, {horizon}", value=ours, unit="%", rival=better, rival_value=best, ratio=ours / best,
                at_most=GOALS.get((name, horizon), SLACK * best), note=_card(values) if horizon == "1d" else "",
            )  # fmt: skip
    yield Row(name="a forecast of a day", value=1e3 * (time.process_time() - began) / made, unit="ms", at_most=20.0)
    for name, factor in TIDES.items():
        yield from _tide_rows(name, all_series()[name] * factor, found["tidal"])
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(found, indent=1))
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    FIGURE.write_text(draw(found["tidal"]))


def replay(values: Values, every: int = EVERY) -> dict[int, Values]:
    """Origin -> path of a day (or what is left of the series), made of what was before it."""
    return {
        origin: forecast(Series(0.0, STEP, values[:origin]), DAY, judged=False).values
        for origin in range(FIRST, len(values) - HORIZONS["1h"] + 1, every)
    }


def errors(values: Values, told: Mapping[int, Values], count: int) -> tuple[float, float, float]:
    """MAPE in percent: ours, naive, seasonal naive, over all origins with a whole path, and leads."""
    known = last_known(values)
    paths: list[list[Values]] = [[], [], []]
    came = []
    for origin in [origin for origin in told if origin + count <= len(values)]:
        came.append(values[origin : origin + count])
        for place, path in enumerate((told[origin][:count], *references(known, origin, count))):
            paths[place].append(path)
    ours, naive, seasonal = (mape(np.array(path), np.array(came)) for path in paths)
    return ours, naive, seasonal


def references(known: Values, origin: int, count: int) -> tuple[Values, Values]:
    """It stays; as yesterday."""
    return np.full(count, known[origin - 1]), known[origin - DAY : origin - DAY + count]


def mape(paths: Values, came: Values) -> float:
    """In percent; where nothing came, or 0, nothing is judged."""
    counts = np.isfinite(came) & (came != 0)
    return float(100 * np.mean(np.abs(paths - came)[counts] / np.abs(came[counts])))


def _card(values: Values) -> str:
    """The report card at the end of the series, in a line."""
    card = forecast(Series(0.0, STEP, values), DAY).cards[0]
    cover = " / ".join("-" if share is None else f"{share:.0%}" for share in (card.p90_cover, card.p99_cover))
    state = "" if card.on else "OFF, "
    return f"{state}{card.model}: {card.mape:.1%} of {card.origins} origins, p90/p99 cover {cover}, {card.why}"


# -- tides -------------------------------------------------------------------------------------------------------------


def tide_paths(values: Values) -> tuple[Values, dict[str, Values]]:
    """What was used on the days that were released, and who expected what, at the start of each day."""
    starts = range(FIRST, len(values) - DAY + 1, DAY)
    used = np.concatenate([values[start : start + DAY] for start in starts])
    told = {
        "naive": np.concatenate([references(values, start, DAY)[0] for start in starts]),
        "seasonal naive": np.concatenate([references(values, start, DAY)[1] for start in starts]),
        "neap": np.concatenate([forecast(Series(0.0, STEP, values[:start]), DAY).values for start in starts]),
    }
    return used, told


def released(used: Values, path: Values, margin: float) -> tuple[float, float, float]:
    """Gained room in percent of the perfect forecast's without margin, violations in percent, mean excess in points."""
    room = np.maximum(0.0, CEILING - margin - path)
    excess = np.where(room > 0, np.maximum(0.0, used + room - CEILING), 0.0)
    whole = np.maximum(0.0, CEILING - used).sum()
    return float(100 * room.sum() / whole), float(100 * np.mean(excess > 1e-9)), float(excess.mean())


def _tide_rows(name: str, values: Values, found: dict[str, Any]) -> Iterator[Row]:
    used, told = tide_paths(values)
    curves = {who: [(margin, *released(used, path, margin)) for margin in MARGINS] for who, path in told.items()}
    found[name] = curves
    for who in ("naive", "seasonal naive"):
        for margin in (5.0, 10.0, 0.0):
            gained, violated, _ = released(used, told[who], margin)
            ours = max((point for point in curves["neap"] if point[2] <= violated), key=lambda point: point[1])
            same = released(used, told["neap"], margin)
            yield Row(
                name=f"tide {name}: room gained at no more violations than {who} with margin {margin:.0f}",
                value=ours[1], unit="%", rival=f"{who} ({violated:.2f} % violated)", rival_value=gained,
                ratio=ours[1] / gained, at_least=None if margin == 0 else 1.0,
                note=f"ours with margin {ours[0]:.2f}: {ours[2]:.2f} % violated; with {margin:.0f}: {same[0]:.1f} / {same[1]:.2f}",
            )  # fmt: skip


def main() -> None:
    """Print the rows as JSON lines."""
    for row in rows():
        print(msgspec.json.encode(row).decode(), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
