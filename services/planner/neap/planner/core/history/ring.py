"""A ring of windows per row: the newest `count` of them, in codes of one or two bytes.

    column of a window = window mod count;    a window is held while  newest - count < window <= newest

Windows are numbered since 1970, for all rows alike. Unknown is code 0, so what was never written is unknown.
A ring is kept on the bus in pages, each with a stretch of windows for a block of rows: what is over is written once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from neap.common.units import Seconds
from neap.foresight.series import Values

LARGEST: Final = 640_000  # bytes of a page before it is compressed
CHUNK: Final = 1000  # rows looked at together
NONE_YET: Final = -(1 << 60)

Plane: TypeAlias = NDArray[Any]
Part: TypeAlias = tuple[int, int]  # stretch, block of rows


class Ring:
    """See module docstring. `planes`: what is kept of each window, and in which type; `stretch`: windows of a page."""

    def __init__(
        self, rows: int, count: int, length: Seconds, planes: Mapping[str, type[np.unsignedinteger[Any]]], stretch: int
    ) -> None:
        assert count % stretch == 0, f"{count} windows in stretches of {stretch}"
        self.count, self.length, self.stretch = count, length, stretch
        self.planes: dict[str, Plane] = {name: np.zeros((rows, count), kind) for name, kind in planes.items()}
        self.newest = NONE_YET
        self.top = 0  # rows below it may hold something
        self.changed: dict[Part, None] = {}
        width = sum(plane.itemsize for plane in self.planes.values()) * stretch
        self.block = LARGEST // width  # rows of a page

    def holds(self, window: int) -> bool:
        """Whether there is a place for a window."""
        return self.newest - self.count < window <= self.newest

    def held(self, windows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """The same for many."""
        return (windows > self.newest - self.count) & (windows <= self.newest)

    def advance(self, window: int) -> None:
        """Make place for a window; the oldest ones are gone."""
        if window <= self.newest:
            return
        steps = min(window - self.newest, self.count)
        first, end = (window - steps + 1) % self.count, window % self.count + 1
        spans = (slice(first, end),) if first < end else (slice(first, None), slice(end))
        for plane in self.planes.values():
            for span in spans:
                plane[: self.top, span] = 0
        self.newest = window

    def column(self, name: str, window: int, used: int) -> Plane:
        """A window of the rows up to `used`; a view."""
        return self.planes[name][:used, window % self.count]

    def cells(self, name: str, row: int, windows: NDArray[np.int64]) -> Plane:
        """Windows of one row, which are held."""
        found: Plane = self.planes[name][row, windows % self.count]
        return found

    def write(self, row: int, windows: NDArray[np.int64], **codes: Plane) -> None:
        """Set windows of one row, which are held."""
        for name, values in codes.items():
            self.planes[name][row, windows % self.count] = values
        self.touch(windows, row, row + 1)

    def touch(self, windows: NDArray[np.int64], start: int, end: int) -> None:
        """Rows start .. end - 1 changed in these windows."""
        self.top = max(self.top, end)
        for stretch in np.unique(windows // self.stretch).tolist():
            for block in range(start // self.block, math.ceil(end / self.block)):
                self.changed[stretch, block] = None

    def line(self, name: str, row: int, until: int) -> tuple[int, Plane]:
        """A row's windows in their order up to and without `until`: the first one's number, and the codes."""
        end = min(until, self.newest + 1)
        first = self.newest - self.count + 1
        if end <= first:
            return first, self.planes[name][row, :0]
        return first, self.planes[name][row, np.arange(first, end) % self.count]

    def clear(self, row: int) -> None:
        """A row begins anew."""
        for plane in self.planes.values():
            plane[row] = 0

    # -- pages ---------------------------------------------------------------------------------------------------------

    def part(self, part: Part) -> dict[str, bytes]:
        """A stretch of windows for a block of rows, by plane."""
        start, columns = part[1] * self.block, self._columns(part[0])
        end = min(start + self.block, self.top)
        held = self.held(self._windows(part[0]))
        return {name: (plane[start:end, columns] * held).tobytes() for name, plane in self.planes.items()}

    def restore(self, part: Part, rows: int, newest: int, planes: Mapping[str, bytes]) -> None:
        """Take a part as it was written, for `rows` rows, when `newest` was the newest window.

        Raises:
            ValueError, KeyError: it is of another shape.
        """
        start = part[1] * self.block
        if start + rows > len(next(iter(self.planes.values()))):
            raise ValueError(f"rows {start} to {start + rows}: there are not so many")
        read = {
            name: np.frombuffer(planes[name], plane.dtype).reshape(rows, self.stretch)
            for name, plane in self.planes.items()
        }
        self.advance(min(newest, (part[0] + 1) * self.stretch - 1))
        self.top = max(self.top, start + rows)
        held = np.flatnonzero(self.held(self._windows(part[0])))
        if not len(held):
            return
        first, end = int(held[0]), int(held[-1]) + 1
        column = self._columns(part[0]).start
        for name, cells in read.items():
            self.planes[name][start : start + rows, column + first : column + end] = cells[:, first:end]

    def _windows(self, stretch: int) -> NDArray[np.int64]:
        return np.arange(stretch * self.stretch, (stretch + 1) * self.stretch)

    def _columns(self, stretch: int) -> slice:
        first = stretch * self.stretch % self.count  # `count` is a multiple of `stretch`
        return slice(first, first + self.stretch)

    def keep(self, first: Values, last: Values) -> None:
        """Forget, of every row, windows before its first and after its last one."""
        windows = np.arange(self.newest - self.count + 1, self.newest + 1)
        doubtful = np.flatnonzero((first > windows[0]) | (last < windows[-1]))
        columns = windows % self.count
        for chunk in np.array_split(doubtful, len(doubtful) // CHUNK + 1):
            own = (windows >= first[chunk, np.newaxis]) & (windows <= last[chunk, np.newaxis])
            kept = np.empty_like(own)
            kept[:, columns] = own
            for plane in self.planes.values():
                plane[chunk] *= kept
