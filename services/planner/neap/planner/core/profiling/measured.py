"""What pods use of profiled kinds, folded from reports into hourly windows per service and machine type.

    window of a service, hour h      for every pod the mean of its samples in h, by container; see judging.py
    kinds per core                   divided by the pod's CPU request; without one there is no value, and that is said
    too few samples in h             no window: absent, never zero
    of each of the last days         the busiest hour is kept: the rule looks at the largest window only

An hour is open until `late` after its end, so a late sample counts in its own window and in no other; what comes later
still, is from the future, negative, no number or beyond all machines is counted and left out. Names: machine "" is a
node whose type nobody stated. A service's first sample goes on from what a former life published of it.
Source: requirements 004-05, 004-14 .. 004-16.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from sys import intern
from typing import Any, Final, NamedTuple

import msgspec

from neap.common.model.profile import MACHINE_LABEL, Observation, ProfiledKind, Window
from neap.common.model.resource import CPU, LARGEST, RECLAIMED_CPU
from neap.common.model.usage import ContainerUsage, NodeUsage
from neap.common.units import DAY, HOUR, MINUTE, MilliCores, Ratio, Seconds
from neap.planner.core import lean
from neap.planner.core.cluster import Cluster
from neap.planner.core.profiling.judging import Judged, judge

MOST_LINES: Final = 400_000  # services times machine types
NO_REQUEST: Final = "cpu request missing"


class Rule(NamedTuple):
    """How samples become windows; see Settings."""

    samples: int
    late: Seconds
    skew: Seconds
    spread: Ratio
    days: int
    windows: int


class Kept(NamedTuple):
    """The busiest hour of a day."""

    hour: int  # hours since the epoch
    judged: Judged


class Past:
    """One kind on one machine type: the busiest hour of each of the last days, and how much was seen of it."""

    __slots__ = ("days", "pod_hours")

    def __init__(self, pod_hours: float = 0.0, days: tuple[Kept, ...] = ()) -> None:
        self.days = days  # oldest first
        self.pod_hours = pod_hours

    def add(self, kept: Kept, pod_hours: float, days: int) -> None:
        """A window is complete."""
        day = _day(kept.hour)
        best = {_day(one.hour): one for one in self.days}
        if day not in best or kept.judged.total >= best[day].judged.total:
            best[day] = kept
        newest = max(best)
        self.days = tuple(best[day] for day in sorted(best) if day > newest - days)
        self.pod_hours += pod_hours

    def forget(self, before: int) -> None:
        """Days that are over for long say nothing any more."""
        self.days = tuple(one for one in self.days if _day(one.hour) >= before)


_PASTS: Final = msgspec.msgpack.Decoder(dict[str, tuple[float, tuple[Kept, ...]]])


class _Seen:
    """One pod in one hour: by container, seconds seen, then sum and count of every kind."""

    __slots__ = ("_names", "_rows", "cpu")

    def __init__(self, cpu: MilliCores) -> None:
        self.cpu = cpu
        self._names: tuple[str, ...] = ()
        self._rows: tuple[array[float], ...] = ()

    def row(self, name: str, width: int) -> array[float]:
        """Of a container; a new one if it has none."""
        if name not in self._names:
            self._names, self._rows = (*self._names, name), (*self._rows, array("d", bytes(8 * width)))
        return self._rows[self._names.index(name)]

    @property
    def rows(self) -> Iterable[tuple[str, array[float]]]:
        """By name."""
        return sorted(zip(self._names, self._rows, strict=True), key=lambda each: each[0])


class Line:
    """One service on one machine type.

    What is over is packed: a week of it takes 600 bytes and not 5 KB, and it is looked at once in a round.
    """

    __slots__ = ("_oldest", "_packed", "last", "machine", "open")

    def __init__(self, machine: str) -> None:
        self.machine = machine
        self.open: tuple[tuple[int, dict[str, _Seen]], ...] = ()  # by hour, by uid
        self.last: Seconds = 0.0  # newest sample
        self._packed, self._oldest = b"", 0

    def hour(self, hour: int) -> dict[str, _Seen]:
        """The pods of an hour under way."""
        found = next((pods for which, pods in self.open if which == hour), None)
        if found is None:
            found = {}
            self.open = (*self.open, (hour, found))
        return found

    def pasts(self) -> dict[str, Past]:
        """By kind."""
        return {kind: Past(*told) for kind, told in _PASTS.decode(self._packed).items()} if self._packed else {}

    def keep(self, pasts: Mapping[str, Past]) -> None:
        """They are so from now on."""
        told = {kind: (past.pod_hours, past.days) for kind, past in sorted(pasts.items())}
        self._packed = msgspec.msgpack.encode(told) if told else b""
        self._oldest = min((_day(past.days[0].hour) for past in pasts.values() if past.days), default=0)

    def forget(self, before: int) -> None:
        """Days that are over for long."""
        if self._packed and self._oldest < before:
            pasts = self.pasts()
            for past in pasts.values():
                past.forget(before)
            self.keep(pasts)


class _Place(NamedTuple):
    """Where the samples of a pod go in the hour it was asked for."""

    hour: int
    line: Line
    seen: _Seen
    containers: Mapping[str, str]  # runtime id -> name; empty: nobody told, so
    only: str  # a pod of one container needs nobody to name it


class Measured:
    """See module docstring. By key of a service, `rule`: how, as it is set; `remembered`: what a former life saw."""

    def __init__(
        self,
        cluster: Cluster,
        kinds: Mapping[str, ProfiledKind],
        rule: Callable[[str], Rule],
        remembered: Callable[[str], Sequence[Observation]],
    ) -> None:
        self._cluster, self._rule, self._remembered = cluster, rule, remembered
        self._kinds = tuple(kind for _, kind in sorted(kinds.items()) if kind.measured)
        self._fields = tuple(len(kind.measured) for kind in self._kinds)
        self._names = [name for kind in self._kinds for name in kind.measured]
        self._read = _reader(self._names)
        self.lines: dict[str, tuple[Line, ...]] = {}  # by key, one per machine type
        self.lacks: dict[str, str] = {}  # why a service has no value of a kind per core
        self._count = 0
        self._whole = lean.Whole(self._names, MINUTE)
        self._passed: dict[str, Seconds] = {}  # by node, since its last full report
        self._places: dict[str, _Place] = {}

    # -- folding -----------------------------------------------------------------------------------------------------

    def take(self, told: NodeUsage, at: Seconds) -> Mapping[str, int]:
        """Count one report's samples; what was left out, by reason. Cost: O(its containers)."""
        usage, skew = self._whole.of(told), self._rule("").skew
        if self._whole.lets_go(told) and told.period > 0:
            self._passed[told.node] = min(self._passed.get(told.node, 0.0) + told.period, MINUTE)
        if usage is None or not self._read:
            return {}
        if not told.at - at <= skew:  # NaN neither
            return {"from the future": len(usage.containers)}
        if not 0 < usage.period <= DAY:
            return {"without a period": len(usage.containers)}
        left_out: dict[str, int] = {}
        hour, period = int(told.at // HOUR), usage.period + self._passed.pop(told.node, 0.0)
        is_late = at > (hour + 1) * HOUR + self._rule("").late
        for container in usage.containers:
            values = self._read(container)
            if all(value is None for value in values):
                continue
            why = "late" if is_late else self._sample(container, values, hour, told.at, period)
            if why:
                left_out[why] = left_out.get(why, 0) + 1
        return left_out

    def _sample(self, one: ContainerUsage, values: Sequence[Any], hour: int, at: Seconds, period: Seconds) -> str:
        place = self._places.get(one.uid)
        if place is None or place.hour != hour:
            uid = intern(one.uid)
            found = self._place(uid, hour)
            if isinstance(found, str):
                return found
            place = self._places[uid] = found
        name = place.containers.get(one.container, "") if place.containers else place.only
        if not name:
            return "of a container nobody named"
        row = place.seen.row(name, 1 + 2 * len(self._kinds))
        start, is_odd = 0, False
        row[0] += period
        for i, count in enumerate(self._fields):
            mine = values[start : start + count]
            start += count
            if None in mine:
                continue
            amount = sum(mine)
            if 0 <= amount <= LARGEST and min(mine) >= 0:
                row[1 + 2 * i] += amount
                row[2 + 2 * i] += 1
            else:
                is_odd = True
        place.line.last = max(place.line.last, at)
        return "no amount" if is_odd else ""

    def _place(self, uid: str, hour: int) -> _Place | str:
        pod = self._cluster.pods.get(uid)
        if pod is None:
            return "of a pod nobody placed"
        key, machine = pod.key, self._machine(pod.node)
        lines = self.lines.get(key)
        if lines is None:
            lines = self.lines[key] = self._restored(key)
        line = next((one for one in lines if one.machine == machine), None)
        if line is None:
            if self._count >= MOST_LINES:
                return "of more services than are kept"
            line = Line(machine)
            self.lines[key] = (*lines, line)
            self._count += 1
        asked, containers = pod.workload.requests, pod.workload.containers
        seen = line.hour(hour).setdefault(uid, _Seen(0))
        seen.cpu = asked.get(CPU, 0) + asked.get(RECLAIMED_CPU, 0)
        return _Place(hour, line, seen, pod.containers, containers[0].name if len(containers) == 1 else "")

    def _machine(self, node: str) -> str:
        known = self._cluster.nodes.get(node)
        return known.labels.get(MACHINE_LABEL, "") if known is not None else ""

    def leave(self, uid: str) -> None:
        """A pod is gone."""
        self._places.pop(uid, None)

    def prune(self, hour: int) -> None:
        """Forget where pods were that have said nothing since the hour before this one."""
        self._places = {uid: place for uid, place in self._places.items() if place.hour >= hour - 1}

    def forget_node(self, node: str) -> None:
        """A node is gone."""
        self._whole.forget(node)
        self._passed.pop(node, None)

    # -- windows -----------------------------------------------------------------------------------------------------

    def close(self, key: str, at: Seconds) -> None:
        """Make windows of the service's hours that are over, and forget days that are over for long."""
        rule = self._rule(key)
        for line in self.lines.get(key, ()):
            over = [(hour, pods) for hour, pods in line.open if at >= (hour + 1) * HOUR + rule.late]
            if over:
                line.open = tuple(each for each in line.open if each not in over)
                pasts = line.pasts()
                for hour, pods in sorted(over, key=lambda each: each[0]):
                    self._close(key, pasts, hour, pods, rule)
                line.keep(pasts)
            line.forget(int(at // DAY) - rule.days)

    def _close(self, key: str, pasts: dict[str, Past], hour: int, pods: Mapping[str, _Seen], rule: Rule) -> None:
        for i, kind in enumerate(self._kinds):
            amounts, count, seconds = list[dict[str, float]](), 0.0, 0.0
            for _, seen in sorted(pods.items()):
                rows = {name: row for name, row in seen.rows if row[2 + 2 * i]}
                if rows and kind.per_core and seen.cpu <= 0:
                    self.lacks[key] = NO_REQUEST
                    continue
                cores = seen.cpu / 1000 if kind.per_core else 1.0
                if rows:
                    amounts.append({name: row[1 + 2 * i] / row[2 + 2 * i] / cores for name, row in rows.items()})
                    count += sum(row[2 + 2 * i] for row in rows.values())
                    seconds += max(row[0] for row in rows.values())
            if amounts and count >= rule.samples:
                self.lacks.pop(key, None)
                kept = Kept(hour, judge(amounts, rule.spread))
                pasts.setdefault(kind.name, Past()).add(kept, seconds / HOUR, rule.days)

    def observations(self, key: str) -> tuple[Observation, ...]:
        """As they are published: of each kind and machine type the busiest windows, in the order of time."""
        most, found = self._rule(key).windows, list[Observation]()
        for line in sorted(self.lines.get(key, ()), key=lambda one: one.machine):
            for kind, past in sorted(line.pasts().items()):
                busiest = sorted(past.days, key=lambda one: (-one.judged.total, one.hour))[:most]
                if busiest:
                    found.append(_observation(kind, line.machine, sorted(busiest), past.pod_hours))
        return tuple(found)

    def _restored(self, key: str) -> tuple[Line, ...]:
        lines: dict[str, Line] = {}
        pasts: dict[str, dict[str, Past]] = {}
        for one in self._remembered(key):
            if self._count >= MOST_LINES:
                break
            if one.machine not in lines:
                lines[one.machine] = Line(one.machine)
                self._count += 1
            line = lines[one.machine]
            past = pasts.setdefault(one.machine, {}).setdefault(one.kind, Past())
            past.pod_hours = one.pod_hours
            for window in one.windows:
                line.last = max(line.last, window.start + window.length)
                told = Judged(tuple(sorted(window.containers.items())), one.spread, one.stable)
                past.add(Kept(int(window.start // HOUR), told), 0.0, self._rule(key).days)
        for machine, line in lines.items():
            line.keep(pasts[machine])
        return tuple(lines.values())

    def drop(self, key: str) -> None:
        """Forget a service."""
        self._count -= len(self.lines.pop(key, ()))
        self.lacks.pop(key, None)

    def last(self, key: str) -> Seconds:
        """When a service was measured last; 0: never."""
        return max((line.last for line in self.lines.get(key, ())), default=0.0)

    def validate(self) -> None:
        """Lines are counted, and what is kept is in order."""
        assert self._count == sum(map(len, self.lines.values())), "lines are miscounted"
        for key, lines in self.lines.items():
            for line in lines:
                for past in line.pasts().values():
                    days = [_day(one.hour) for one in past.days]
                    assert days == sorted(set(days)), f"days of {key} are out of order: {days}"


def _observation(kind: str, machine: str, kept: Sequence[Kept], pod_hours: float) -> Observation:
    spreads = [one.judged.spread for one in kept if one.judged.spread is not None]
    return Observation(
        kind=kind,
        machine=machine,
        windows=tuple(Window(start=one.hour * HOUR, containers=dict(one.judged.containers)) for one in kept),
        pod_hours=round(pod_hours, 1),
        spread=round(max(spreads), 3) if spreads else None,
        stable=all(one.judged.stable for one in kept),
    )


def _day(hour: int) -> int:
    return hour // 24


def _reader(fields: Sequence[str]) -> Callable[[ContainerUsage], tuple[Any, ...]] | None:
    if not fields:
        return None
    read = attrgetter(*fields)
    return read if len(fields) > 1 else lambda one: (read(one),)
