"""What cannot be is named and left out, before anything is made of it.

Infinite, impossibly high and negative values become unknown (a counter that was reset, a broken sensor); of two parts of a series with
more than two weeks of nothing in between, the newer one counts; and at most four weeks are looked at.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from neap.common.units import DAY, Seconds
from neap.foresight.series import Series

LONGEST: Final[Seconds] = 28 * DAY  # looked at
LONGEST_GAP: Final[Seconds] = 14 * DAY
HIGHEST: Final = 1e18  # in any unit: an exabyte
MOST: Final = 20_000  # values looked at, whatever the step


def sane(series: Series) -> tuple[Series, tuple[str, ...]]:
    """The newest part that can be used, and what was left out of it and why."""
    said: list[str] = []
    kept = series.last(min(MOST, int(LONGEST // series.step)))
    values = kept.values.astype(np.float64)
    for what, wrong in (
        ("infinite", np.isinf(values)),
        ("impossible", np.isfinite(values) & (values > HIGHEST)),
        ("negative", values < 0),
    ):
        if count := int(wrong.sum()):
            said.append(f"{count} {what} value{'s' if count > 1 else ''} left out")
            values = np.where(wrong, np.nan, values)
    known = np.flatnonzero(np.isfinite(values))
    if len(known):
        gaps = np.flatnonzero(np.diff(known) * series.step > LONGEST_GAP)
        begin = int(known[gaps[-1] + 1]) if len(gaps) else int(known[0])
        if len(gaps):
            days = float(np.diff(known)[gaps[-1]]) * series.step / DAY
            said.append(f"{days:.0f} days without values: what was before them is not used")
        values = values[begin:]
    return Series(kept.end - len(values) * series.step, series.step, values), tuple(said)


def onto_grid(at: list[Seconds], values: list[float], step: Seconds) -> tuple[Series, tuple[str, ...]]:
    """Samples at any times, in any order, put on a fixed step: the mean of each step's; a step without any is unknown.

    A grid longer than MOST steps keeps its newest part (samples ten years apart make no list of ten years).
    """
    if not at:
        return Series(0.0, step, np.empty(0)), ("no samples",)
    times, told = np.asarray(at, dtype=np.float64), np.asarray(values, dtype=np.float64)
    good = np.isfinite(times) & np.isfinite(told)
    said = [f"{int((~good).sum())} samples without time or value left out"] if not good.all() else []
    if not good.any():
        return Series(0.0, step, np.empty(0)), (*said, "no samples")
    times, told = times[good], told[good]
    newest = float(times.max())
    places = np.floor((times - newest) / step + 0.5) + (MOST - 1)
    inside = places >= 0
    if not inside.all():
        said.append(f"{int((~inside).sum())} samples more than {MOST} steps before the newest left out")
    where = places[inside].astype(np.int64)
    totals, counts = np.zeros(MOST), np.zeros(MOST)
    np.add.at(totals, where, told[inside])
    np.add.at(counts, where, 1)
    first = int(where.min())
    grid = np.where(counts > 0, totals / np.maximum(counts, 1), np.nan)[first:]
    if repeated := int((counts > 1).sum()):
        said.append(f"{repeated} steps with several samples: their mean is taken")
    return Series(newest - (len(grid) - 1) * step, step, grid), tuple(said)
