"""Totals per five minutes: of services over their replicas, a day or (tracked) weeks; of nodes over owners, a fortnight."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from neap.common.units import DAY, HOUR, Seconds
from neap.foresight.series import Series, Values
from neap.foresight.windows import group, window_of
from neap.planner.core.history.codes import decoded, encoded
from neap.planner.core.history.open_window import Listed, OpenWindow
from neap.planner.core.history.ring import Ring
from neap.planner.core.history.rows import NO_ROW, Rows
from neap.planner.core.history.settings import Settings
from neap.planner.core.record import STEP, How

Placed: TypeAlias = Callable[[str], Iterable[str]]  # node -> the services of its pods, one per pod

A_DAY: Final = round(DAY / STEP)
WEEKS: Final = 28 * A_DAY
FORTNIGHT: Final = 14 * A_DAY
STRETCH: Final = 12  # windows of a page: an hour
OPEN: Final = 3  # windows that late reports still change
SERVICE_PLANES: Final = {"cpu": np.uint16, "memory": np.uint16, "replicas": np.uint16}
NODE_PLANES: Final = {"cpu_avg": np.uint16, "cpu_max": np.uint16, "memory_avg": np.uint16, "memory_max": np.uint16}


class Totals:
    """See module docstring."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.services: Rows[str] = Rows(settings.most_services)
        self.tracked: Rows[str] = Rows(settings.most_tracked)
        self.nodes: Rows[str] = Rows(settings.most_nodes)
        self.day = Ring(settings.most_services, A_DAY, STEP, SERVICE_PLANES, STRETCH)
        self.weeks = Ring(settings.most_tracked, WEEKS, STEP, SERVICE_PLANES, STRETCH)
        self.fortnight = Ring(settings.most_nodes, FORTNIGHT, STEP, NODE_PLANES, STRETCH)
        self.counting: dict[int, str] = {}  # service -> whose replicas count, of the past
        self._open: dict[int, OpenWindow] = {}

    # -- live ----------------------------------------------------------------------------------------------------------

    def fold(self, node: str, listed: Listed, at: Seconds, now: Seconds) -> None:
        """One report, unless it is too late for the totals."""
        window = window_of(at, STEP)
        if window <= window_of(now, STEP) - OPEN:
            return
        self._open.setdefault(window, OpenWindow()).add(node, listed)
        self.services.see(listed.rows, at, now)
        row = self.nodes.take(node)
        if row != NO_ROW:
            self.nodes.see(np.array([row]), at, now)

    def close(self, now: Seconds, placed: Placed) -> None:
        """Make the sums of windows that are over and changed. `placed`: the services of a node's pods."""
        for window in sorted(self._open):
            opened = self._open[window]
            if opened.is_changed and (window + 1) * STEP <= now:
                self._sum(window, opened, placed)
                opened.is_changed = False
            if window <= window_of(now, STEP) - OPEN:
                del self._open[window]

    def close_all(self, now: Seconds, placed: Placed) -> None:
        """The same for windows under way."""
        self.close(max([now, *((window + 1) * STEP for window in self._open)]), placed)

    def _sum(self, window: int, opened: OpenWindow, placed: Placed) -> None:
        for ring in (self.day, self.weeks, self.fortnight):
            ring.advance(window)
        missing = self._missing(window * STEP, opened, placed)
        sums = opened.sums(self.services.used, missing, self._settings.silent)
        rows = np.flatnonzero(np.isfinite(sums["replicas"]))
        codes = {name: encoded(values[rows], name) for name, values in sums.items()}
        self._put(self.day, window, rows, codes)
        followed = np.array([self.services.row_of.get(key or "", NO_ROW) for key in self.tracked.keys], np.intp)
        theirs = np.flatnonzero(np.isin(followed, rows))
        places = np.searchsorted(rows, followed[theirs])
        self._put(self.weeks, window, theirs, {name: values[places] for name, values in codes.items()})
        self.tracked.see(theirs, window * STEP, window * STEP)
        self._sum_nodes(window, opened)

    def _missing(self, start: Seconds, opened: OpenWindow, placed: Placed) -> Values:
        """Replicas on nodes that did not report, although they did within the hour."""
        missing = np.zeros(self.services.used)
        for row in np.flatnonzero(self.nodes.last[: self.nodes.used] > start - HOUR).tolist():
            node = self.nodes.keys[row]
            for key in placed(node) if node is not None and node not in opened.reports else ():
                service = self.services.row_of.get(key, NO_ROW)
                if service != NO_ROW:
                    missing[service] += 1
        return missing

    def _sum_nodes(self, window: int, opened: OpenWindow) -> None:
        rows = {self.nodes.row_of[node]: node for node in opened.reports if node in self.nodes.row_of}
        if not rows:
            return
        ordered = np.array(sorted(rows), np.intp)
        found = [opened.of_node(rows[row]) for row in ordered.tolist()]
        codes = {name: encoded(np.array([each[name] for each in found]), name[:-4]) for name in NODE_PLANES}
        self._put(self.fortnight, window, ordered, codes)

    @staticmethod
    def _put(ring: Ring, window: int, rows: NDArray[np.intp], codes: Mapping[str, NDArray[np.uint16]]) -> None:
        if not len(rows) or not ring.holds(window):
            return
        ring.touch(np.array([window]), int(rows[0]), int(rows[-1]) + 1)
        for name, values in codes.items():
            ring.column(name, window, ring.top)[rows] = values

    # -- told ----------------------------------------------------------------------------------------------------------

    def fold_past(self, key: str, resource: str, told: Series, now: Seconds, part: str) -> str:
        """All replicas together, or (`part` names a container) one of them; why nothing of it was taken."""
        row = self.services.take(key)
        if row == NO_ROW:
            return "full"
        if len(told) * told.step > DAY:
            self.track(key)
        is_replica = bool(part) and resource == "cpu" and self.counting.setdefault(row, part) == part
        taken = self._fold_ring(self.day, row, resource, told, now, self.services.live[row], part, is_replica)
        followed = self.tracked.row_of.get(key, NO_ROW)
        if followed != NO_ROW:
            live = self.services.live[row]
            taken |= self._fold_ring(self.weeks, followed, resource, told, now, live, part, is_replica)
        if not taken:
            return "seen"
        self.services.told(row, told.start, told.end, now)
        if followed != NO_ROW:
            self.tracked.told(followed, told.start, told.end, now)
        return ""

    def fold_past_node(self, node: str, resource: str, told: Series, now: Seconds) -> str:
        """What was used on a node."""
        row = self.nodes.take(node)
        if row == NO_ROW:
            return "full"
        self.fortnight.advance(window_of(now, STEP))
        found = group(told, STEP, STEP)
        found = found[self.fortnight.held(found.windows) & ((found.windows + 1) * STEP <= self.nodes.live[row])]
        if not len(found.windows):
            return "seen"
        codes = {f"{resource}_avg": encoded(found.means, resource), f"{resource}_max": encoded(found.highest, resource)}
        self.fortnight.write(row, found.windows, **codes)
        self.nodes.told(row, told.start, told.end, now)
        return ""

    def _fold_ring(
        self, ring: Ring, row: int, resource: str, told: Series, now: Seconds, live: Seconds, part: str, counts: bool
    ) -> bool:
        ring.advance(window_of(now, STEP))
        found = group(told, STEP, STEP)
        found = found[ring.held(found.windows) & ((found.windows + 1) * STEP <= live)]
        if not len(found.windows):
            return False
        before = decoded(ring.cells(resource, row, found.windows), resource) if part else np.zeros(len(found.windows))
        codes = {resource: encoded(np.nan_to_num(before) + found.means, resource)}
        if counts:
            replicas = np.nan_to_num(decoded(ring.cells("replicas", row, found.windows), "replicas"))
            codes["replicas"] = encoded(replicas + 1, "replicas")
        ring.write(row, found.windows, **codes)
        return True

    # -- reading -------------------------------------------------------------------------------------------------------

    def series(self, key: str, name: str) -> Series | None:
        """cpu, memory or replicas of a service, of the same steps; None: it is not known."""
        followed = self.tracked.row_of.get(key, NO_ROW)
        row = self.services.row_of.get(key, NO_ROW) if followed == NO_ROW else followed
        return None if row == NO_ROW else _known(self.day if followed == NO_ROW else self.weeks, name, name, row)

    def node(self, node: str, resource: str, how: How) -> Series | None:
        """Of a node's owners."""
        row = self.nodes.row_of.get(node, NO_ROW)
        return None if row == NO_ROW else _known(self.fortnight, f"{resource}_{how}", resource, row)

    def track(self, key: str) -> bool:
        """Keep weeks of a service from now on; False: too many are."""
        if key in self.tracked.row_of:
            return True
        row = self.tracked.take(key)
        if row == NO_ROW:
            return False
        source = self.services.row_of.get(key, NO_ROW)
        if source != NO_ROW and self.day.newest > 0:
            self.tracked.told(row, float(self.services.first[source]), float(self.services.last[source]), 0.0)
            self.weeks.advance(self.day.newest)
            windows = np.arange(self.day.newest - A_DAY + 1, self.day.newest + 1)
            self.weeks.write(row, windows, **{name: self.day.cells(name, source, windows) for name in SERVICE_PLANES})
        return True

    def forget(self, before: Seconds) -> int:
        """Free the rows of those unheard since then; how many services."""
        gone = self.services.unheard(before)
        for row in gone:
            key = self.services.forget(row)
            self.day.clear(row)
            self.counting.pop(row, None)
            followed = self.tracked.row_of.get(key, NO_ROW)
            if followed != NO_ROW:
                self.tracked.forget(followed)
                self.weeks.clear(followed)
        for row in self.nodes.unheard(before):
            self.nodes.forget(row)
            self.fortnight.clear(row)
        return len(gone)

    def validate(self) -> None:
        """Rows agree with themselves."""
        for rows in (self.services, self.tracked, self.nodes):
            rows.validate()


def _known(ring: Ring, name: str, kind: str, row: int) -> Series | None:
    """From the first window of which anything is known to the last; None if nothing is known of this."""
    first, codes = ring.line(name, row, ring.newest + 1)
    if not codes.any():
        return None
    known = np.flatnonzero(np.any([ring.line(plane, row, ring.newest + 1)[1] for plane in ring.planes], axis=0))
    start, end = int(known[0]), int(known[-1]) + 1
    return Series((first + start) * ring.length, ring.length, decoded(codes[start:end], kind))
