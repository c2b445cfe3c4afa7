"""Rows as a page carries them: times, and one resource's measures with the histograms where they are not empty."""

from __future__ import annotations

import math
from collections.abc import Sequence, Sized
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from neap.foresight.series import Values
from neap.planner.core.history.containers import Measures
from neap.planner.core.history.pages import Measured, Sparse, floats, numbers
from neap.planner.core.history.rows import Rows

K = TypeVar("K")


def blocks(used: int, size: int) -> int:
    """How many pages that many rows take."""
    return math.ceil(used / size)


def taken_rows(rows: Rows[K], block: int, size: int) -> list[int]:
    """Rows of a block that are somebody's."""
    return [row for row in range(block * size, min((block + 1) * size, rows.used)) if rows.keys[row] is not None]


def times_of(rows: Rows[K], chosen: list[int]) -> bytes:
    """When they were seen: first, last, heard, live."""
    return np.stack([rows.first[chosen], rows.last[chosen], rows.heard[chosen], rows.live[chosen]]).tobytes()


def fits(rows: Rows[K], chosen: Sequence[int], *columns: Sized) -> None:
    """Whether a page's columns are as long as its rows, and the rows are there.

    Raises:
        ValueError: they are not.
    """
    if any(len(column) != len(chosen) for column in columns):
        raise ValueError(f"{len(chosen)} rows, but {[len(column) for column in columns]} values")
    if chosen and not 0 <= min(chosen) <= max(chosen) < rows.most:
        raise ValueError(f"rows {min(chosen)} to {max(chosen)}: there are {rows.most}")


def place(rows: Rows[K], row: int, key: K, times: Values) -> bool:
    """Put a row back; False: the key was heard later elsewhere (its row changed between two pages)."""
    other = rows.row_of.get(key)
    if other is not None and other != row:
        if rows.heard[other] >= times[2]:
            return False
        rows.drop(other)
    if row < rows.used:
        rows.drop(row)
    first, last, heard, live = times.tolist()
    rows.place(row, key, (first, last, heard, live))
    return True


def measured(measures: Measures, chosen: list[int]) -> Measured:
    """One resource of rows."""
    histograms = measures.histograms
    weights = histograms.weights[chosen].ravel()
    places = np.flatnonzero(weights).astype(np.uint32)
    names = measures.worst_uid
    return Measured(
        Sparse(
            histograms.reference,
            histograms.half_life,
            histograms.latest[chosen].tobytes(),
            places.tobytes(),
            weights[places].tobytes(),
        ),
        measures.startup[chosen].tobytes(),
        np.stack([measures.worst[chosen], measures.worst_at[chosen]]).tobytes(),
        [names[row] if row < len(names) else "" for row in chosen],
    )


class Carried:
    """One resource of a page's rows, read whole before any of it is put back.

    Raises:
        ValueError: it is of another shape.
    """

    def __init__(self, page: Measured, measures: Measures, count: int) -> None:
        self._page, self._measures = page, measures
        told, self._latest = page.histograms, floats(page.histograms.latest, count)
        places, weights = numbers(told.places, np.uint32, -1), numbers(told.weights, np.float32, -1)
        if len(places) != len(weights) or not (math.isfinite(told.reference) and told.half_life > 0):
            raise ValueError(f"{len(places)} places of {len(weights)} weights")
        self._weights = np.zeros((count, len(measures.histograms.buckets)), np.float32)
        if len(places):
            if int(places.max()) >= self._weights.size:
                raise ValueError(f"place {int(places.max())} of {self._weights.size}")
            self._weights.ravel()[places] = weights
        self._startup = floats(page.startup, count, 2)
        self._worst = floats(page.worst, 2, count)

    def put(self, rows: NDArray[np.intp], chosen: NDArray[np.intp]) -> None:
        """Put those `chosen` of the page into rows."""
        measures, told = self._measures, self._page.histograms
        weights, latest = self._weights[chosen], self._latest[chosen]
        measures.histograms.put(rows, weights, latest, told.reference, told.half_life)
        measures.startup[rows] = self._startup[chosen]
        measures.worst[rows], measures.worst_at[rows] = self._worst[:, chosen]
        names = measures.worst_uid
        names += [""] * (int(rows.max(initial=-1)) + 1 - len(names))
        for row, place_of in zip(rows.tolist(), chosen.tolist(), strict=True):
            names[row] = self._page.worst_uid[place_of]
