"""What containers used, over all replicas of their service: one row per container and service, whatever ran."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from neap.common.units import DAY, HOUR, Bytes, Seconds
from neap.foresight.histogram import BUCKETS, Histograms
from neap.foresight.series import Series, Values
from neap.foresight.sizing import Kill
from neap.foresight.windows import group, window_of
from neap.planner.core.history.hours import HOURS, Hours
from neap.planner.core.history.rows import Rows
from neap.planner.core.history.settings import Settings
from neap.planner.core.record import ContainerRecord, Used

RESOURCES: Final = ("cpu", "memory")
MOST_OOMS: Final = 16  # kept of one container, the newest
KEPT: Final = HOURS * HOUR

Key = tuple[str, str]  # service, container


class Measures:
    """One resource of all rows."""

    def __init__(self, resource: str, settings: Settings) -> None:
        rows = settings.most_containers
        self.histograms = Histograms(rows, BUCKETS[resource], settings.half_life)
        self.hours = Hours(rows, resource, settings.least)
        self.startup: Values = np.full((rows, 2), np.nan)  # highest of this fortnight and of the one before
        self.worst: Values = np.zeros(rows)  # highest of a day
        self.worst_at: Values = np.zeros(rows)
        self.worst_uid: list[str] = []

    def used(self, row: int, hour: int) -> Used:
        """A row, by hours before `hour`."""
        startup = self.startup[row]
        return Used(
            self.histograms.of(row),
            self.hours.series(row, "avg", hour),
            self.hours.series(row, "max", hour),
            float(np.nanmax(startup)) if np.isfinite(startup).any() else np.nan,
            self.worst_uid[row] if row < len(self.worst_uid) else "",
        )

    def note_worst(self, rows: NDArray[np.intp], values: Values, at: Seconds, uids: Sequence[str]) -> None:
        """Remember who had the highest sample of a day."""
        for place in np.flatnonzero((values >= self.worst[rows]) | (self.worst_at[rows] < at - DAY)).tolist():
            row = int(rows[place])
            if values[place] >= self.worst[row] or self.worst_at[row] < at - DAY:
                self.worst[row], self.worst_at[row] = values[place], at
                self.worst_uid += [""] * (row + 1 - len(self.worst_uid))
                self.worst_uid[row] = uids[place]

    def clear(self, row: int) -> None:
        """A row begins anew."""
        self.histograms.clear(row)
        self.hours.clear(row)
        self.startup[row], self.worst[row], self.worst_at[row] = np.nan, 0.0, 0.0
        if row < len(self.worst_uid):
            self.worst_uid[row] = ""


class Containers:
    """See module docstring."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.rows: Rows[Key] = Rows(settings.most_containers)
        self.measures = {resource: Measures(resource, settings) for resource in RESOURCES}
        self.samples = np.zeros(settings.most_containers, np.int64)
        self.turn = 0  # fortnight of the start-up peaks
        self.ooms: dict[int, deque[Kill]] = {}
        self._names: dict[str, tuple[str, ...]] = {}  # of services

    def take(self, key: Key) -> int:
        """The row of a container."""
        row = self.rows.row_of.get(key)
        if row is None:
            row = self.rows.take(key)
            if row >= 0:
                self._names[key[0]] = tuple(sorted({*self._names.get(key[0], ()), key[1]}))
        return row

    def fold(
        self, rows: NDArray[np.intp], values: Mapping[str, Values], at: Seconds, now: Seconds, uids: Sequence[str]
    ) -> None:
        """Samples of one time, NaN where unknown; rows may come several times."""
        hour = window_of(at, HOUR)
        for resource, measures in self.measures.items():
            known = ~np.isnan(values[resource])
            its, amounts = rows[known], values[resource][known]
            if not measures.hours.add(hour, its, amounts):
                return  # too long ago
            measures.histograms.add(its, amounts, np.full(len(its), at))
            measures.note_worst(its, amounts, at, [uid for uid, is_known in zip(uids, known, strict=True) if is_known])
        self.rows.see(rows, at, now)
        np.add.at(self.samples, rows, 1)

    def fold_startup(self, row: int, cpu: float, memory: float, at: Seconds, now: Seconds) -> None:
        """A sample of a replica that has just started."""
        self._turn(window_of(at, KEPT))
        for resource, value in zip(RESOURCES, (cpu, memory), strict=True):
            startup = self.measures[resource].startup
            startup[row, 0] = np.fmax(startup[row, 0], value)
        self.rows.see(np.array([row]), at, now)

    def fold_past(self, key: Key, resource: str, told: Series, now: Seconds) -> str:
        """What somebody tells of one row, up to when we saw it ourselves; why nothing of it was taken."""
        row = self.take(key)
        if row < 0:
            return "full"
        hours, spacing = self.measures[resource].hours, self._settings.spacing
        hours.ring.advance(window_of(now, HOUR))
        values = told.values.copy()
        ends: Values = told.start + told.step * np.arange(1.0, len(values) + 1)
        values[(ends > self.rows.live[row]) | (ends <= now - KEPT)] = np.nan
        known = np.flatnonzero(np.isfinite(values))
        if not len(known):
            return "seen"
        found = group(Series(told.start, told.step, values), HOUR, spacing)
        hours.add_past(row, found[hours.ring.held(found.windows)])
        its = np.full(len(known), row)
        self.measures[resource].histograms.add(its, values[known], ends[known], told.step / spacing)
        self.rows.told(row, float(ends[known[0]]) - told.step, float(ends[known[-1]]), now)
        self.samples[row] += len(known)
        return ""

    def note_oom(self, row: int, at: Seconds, uid: str, had: Bytes) -> None:
        """A replica was killed for memory."""
        self.ooms.setdefault(row, deque(maxlen=MOST_OOMS)).append(Kill(at, uid, had))

    def record(self, key: Key, now: Seconds) -> ContainerRecord | None:
        """All that is known of one container."""
        row = self.rows.row_of.get(key)
        if row is None:
            return None
        self._turn(window_of(now, KEPT))
        cpu, memory = (self.measures[resource].used(row, window_of(now, HOUR)) for resource in RESOURCES)
        ooms = tuple(oom for oom in self.ooms.get(row, ()) if oom.at > now - KEPT)
        first, last = float(self.rows.first[row]), float(self.rows.last[row])
        return ContainerRecord(key[1], first, last, int(self.samples[row]), cpu, memory, ooms)

    def names(self, service: str) -> Sequence[str]:
        """Of a service's containers."""
        return self._names.get(service, ())

    def highest_now(self, row: int, at: Seconds) -> float:
        """The most memory of any replica in this hour and the one before; NaN: not known."""
        until = window_of(at, HOUR) + 1
        values = self.measures["memory"].hours.series(row, "max", until).last(2).values
        return float(np.nanmax(values)) if np.isfinite(values).any() else np.nan

    def forget(self, before: Seconds) -> int:
        """Free the rows of those unheard since then; how many."""
        gone = self.rows.unheard(before)
        for row in gone:
            service, name = self.rows.forget(row)
            left = tuple(other for other in self._names[service] if other != name)
            self._names[service] = left
            if not left:
                del self._names[service]
            self._clear(row)
        return len(gone)

    def know_again(self) -> None:
        """After rows were placed as they were in an earlier life: names, and rows that are nobody's."""
        found: dict[str, list[str]] = {}
        for service, name in self.rows.row_of:
            found.setdefault(service, []).append(name)
        self._names = {service: tuple(sorted(names)) for service, names in found.items()}
        for row, key in enumerate(self.rows.keys):
            if key is None and self.samples[row]:
                self._clear(row)

    def _clear(self, row: int) -> None:
        for measures in self.measures.values():
            measures.clear(row)
        self.samples[row] = 0
        self.ooms.pop(row, None)

    def validate(self) -> None:
        """Rows and what is known of them agree."""
        self.rows.validate()
        assert sum(map(len, self._names.values())) == len(self.rows), "names are lost"

    def _turn(self, fortnight: int) -> None:
        """Start-up peaks of the fortnight before last are forgotten."""
        if fortnight > self.turn:
            for measures in self.measures.values():
                peaks = measures.startup[: self.rows.used]
                peaks[:, 1] = peaks[:, 0] if fortnight == self.turn + 1 else np.nan
                peaks[:, 0] = np.nan
            self.turn = fortnight
