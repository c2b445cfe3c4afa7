"""Hours of a container's use, over all its replicas: mean and highest sample, two weeks.

    mean = sum of the samples / count,    absent below `least` samples

Hours under way are exact sums; when they are over they become codes of the ring. A late sample opens its hour again,
from the codes, and no other.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from neap.common.units import DAY, HOUR
from neap.foresight.series import Series, Values
from neap.foresight.windows import Grouped
from neap.planner.core.history.codes import counted, decoded, encoded, uncounted
from neap.planner.core.history.ring import Ring

HOURS: Final = round(14 * DAY / HOUR)
MOST_OPEN: Final = 3
STRETCH: Final = 8  # hours of a page


class OpenHour:
    """One hour of one resource, of all rows."""

    def __init__(self, rows: int) -> None:
        self.counts: Values = np.zeros(rows)
        self.sums: Values = np.zeros(rows)
        self.highest: Values = np.zeros(rows)

    def add(self, rows: NDArray[np.intp], values: Values) -> None:
        """Samples."""
        np.add.at(self.counts, rows, 1.0)
        np.add.at(self.sums, rows, values)
        np.maximum.at(self.highest, rows, values)


class Hours:
    """Of one resource; see module docstring."""

    def __init__(self, rows: int, resource: str, least: int) -> None:
        self._rows, self.resource, self._least = rows, resource, least
        self.ring = Ring(rows, HOURS, HOUR, {"avg": np.uint16, "max": np.uint16, "count": np.uint8}, STRETCH)
        self._open: dict[int, OpenHour] = {}

    def add(self, hour: int, rows: NDArray[np.intp], values: Values) -> bool:
        """Samples of an hour; False: it is too long ago."""
        if hour > self.ring.newest:
            self.ring.advance(hour)
        elif not self.ring.holds(hour):
            return False
        self._opened(hour).add(rows, values)
        return True

    def add_past(self, row: int, found: Grouped) -> None:
        """What was told of one row; windows are held."""
        for hour in [hour for hour in found.windows.tolist() if hour in self._open]:
            self._close(hour)
        counts = uncounted(self.ring.cells("count", row, found.windows))
        before = np.nan_to_num(decoded(self.ring.cells("avg", row, found.windows), self.resource)) * counts
        highest = np.nan_to_num(decoded(self.ring.cells("max", row, found.windows), self.resource))
        self.ring.write(
            *(row, found.windows),
            avg=encoded((before + found.sums) / (counts + found.counts), self.resource),
            max=encoded(np.maximum(highest, found.highest), self.resource),
            count=counted(counts + found.counts),
        )

    def settle(self) -> None:
        """Write the hours under way into the ring as well."""
        for hour, opened in self._open.items():
            self._write(hour, opened)

    def series(self, row: int, how: str, until: int) -> Series:
        """A row's hours before hour `until`, from the first that is known to the last; absent ones are NaN."""
        first, codes = self.ring.line(how, row, until)
        counts = uncounted(self.ring.line("count", row, until)[1])
        values = decoded(codes, self.resource)
        for hour, opened in self._open.items():
            if first <= hour < first + len(values) and opened.counts[row]:
                exact = opened.sums[row] / opened.counts[row] if how == "avg" else opened.highest[row]
                values[hour - first], counts[hour - first] = exact, opened.counts[row]
        values[counts < self._least] = np.nan
        known = np.flatnonzero(counts >= self._least)
        start, end = (int(known[0]), int(known[-1]) + 1) if len(known) else (len(values), len(values))
        return Series((first + start) * HOUR, HOUR, values[start:end])

    def clear(self, row: int) -> None:
        """A row begins anew."""
        self.ring.clear(row)
        for opened in self._open.values():
            opened.counts[row] = opened.sums[row] = opened.highest[row] = 0.0

    # -- hours under way -----------------------------------------------------------------------------------------------

    def _opened(self, hour: int) -> OpenHour:
        found = self._open.get(hour)
        if found is None:
            while len(self._open) >= MOST_OPEN:
                self._close(min(self._open))
            found = self._open[hour] = self._from_codes(hour)
        return found

    def _from_codes(self, hour: int) -> OpenHour:
        opened, top = OpenHour(self._rows), self.ring.top
        codes = self.ring.column("count", hour, top)
        known = np.flatnonzero(codes)
        if len(known):
            counts = opened.counts[known] = uncounted(codes[known])
            opened.sums[known] = decoded(self.ring.column("avg", hour, top)[known], self.resource) * counts
            opened.highest[known] = decoded(self.ring.column("max", hour, top)[known], self.resource)
        return opened

    def _close(self, hour: int) -> None:
        self._write(hour, self._open.pop(hour))

    def _write(self, hour: int, opened: OpenHour) -> None:
        if not self.ring.holds(hour):
            return
        rows = np.flatnonzero(opened.counts)
        if not len(rows):
            return
        self.ring.touch(np.array([hour]), int(rows[0]), int(rows[-1]) + 1)
        top, counts = self.ring.top, opened.counts[rows]
        self.ring.column("avg", hour, top)[rows] = encoded(opened.sums[rows] / counts, self.resource)
        self.ring.column("max", hour, top)[rows] = encoded(opened.highest[rows], self.resource)
        self.ring.column("count", hour, top)[rows] = counted(counts)
