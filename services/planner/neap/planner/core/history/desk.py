"""The history desk: hears reports, lines of the past and its own pages; answers what was used. Decides nothing.

Nothing is folded before everything stored is known: reports until then are lost, lines of the past wait.
Pages are written in rotation, each at most every `write_every` if it changed, all of them at the end.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from neap.common.contract.catalogue import HISTORY, PLACEMENTS, WORKLOAD
from neap.common.contract.channel import Channel
from neap.common.errors import InputError
from neap.common.model.past import HistoryPage, PastUsage
from neap.common.model.usage import NodeUsage
from neap.common.runtime.machine import Arrived, Count, Event, Failed, Instruction, Later, Put, Stopping, Synced
from neap.common.units import DAY, HOUR, Seconds
from neap.foresight.series import Series
from neap.planner.core.cluster import Cluster
from neap.planner.core.desk import counts
from neap.planner.core.history.containers import Containers
from neap.planner.core.history.keeping import Keeping
from neap.planner.core.history.pages import packed, unpacked
from neap.planner.core.history.past import Past
from neap.planner.core.history.reports import Reports
from neap.planner.core.history.ring import Part
from neap.planner.core.history.settings import Settings
from neap.planner.core.history.totals import Totals
from neap.planner.core.keys import key_of
from neap.planner.core.record import ContainerRecord, How

SAMPLES: Final = "neap_planner_history_samples_total"
SKIPPED: Final = "neap_planner_history_skipped_total"
PAGES: Final = "neap_planner_history_pages_total"
PAST_VALUES: Final = "neap_planner_history_past_total"
FORGOTTEN: Final = "neap_planner_history_forgotten_total"
WAIT: Final[Seconds] = 5.0  # of a line of the past until we know what is stored
FEWEST, MOST_PAGES = 2, 16  # written at one tick, 5 to 20 ms each
MOST_SAID: Final = 1000  # reasons in the log; all are counted
TIGHT: Final = 0.9  # share of rows taken from which those unseen for a day are forgotten


@dataclass(frozen=True, slots=True)
class TellHistory(Instruction):
    """Say in the log what was not read, and why."""

    event: str
    about: str
    why: str


class History:
    """A Desk and a Record; see module docstring."""

    news: Final = (NodeUsage, PastUsage, HistoryPage)

    def __init__(self, settings: Settings, cluster: Cluster) -> None:
        self._settings, self._cluster = settings, cluster
        self._containers, self._totals = Containers(settings), Totals(settings)
        self._reports = Reports(settings, cluster, self._containers, self._totals)
        self._past = Past(settings, self._containers, self._totals)
        self._keeping = Keeping(self._containers, self._totals, self._past)
        self._unread: list[Channel[Any]] = [HISTORY, WORKLOAD, PLACEMENTS]
        self._written: dict[str, tuple[Seconds, int]] = {}  # page -> when, and its checksum
        self._asked: dict[str, tuple[str, Part]] = {}  # pages of rings on their way
        self._said: set[tuple[str, str]] = set()
        self._at: Seconds = 0.0
        self._refused = 0  # services that were not tracked, because too many are
        self._settled = self._looked = 0.0  # when hours under way were written into their ring; for whom to forget

    # -- a Desk --------------------------------------------------------------------------------------------------------

    def hear(self, event: Event) -> Sequence[Instruction]:
        """Fold what concerns it."""
        self._at = max(self._at, event.at)
        match event:
            case Arrived(message=NodeUsage() as report):
                return self._hear_report(report, event.at) if not self._unread else ()
            case Arrived(message=PastUsage() as told):
                return self._hear_past(told, event.at) if not self._unread else (Later(WAIT),)
            case Arrived(message=HistoryPage() as page) if HISTORY in self._unread:
                return self._take(page, event.at)
            case Synced(channel=channel) if channel in self._unread:
                self._unread.remove(channel)
                if channel == HISTORY:
                    self._keeping.settle()
            case Failed(instruction=Put(value=HistoryPage(page=name))):
                self._written.pop(name, None)
                if name in self._asked:
                    ring, part = self._asked[name]
                    self._keeping.rings[ring].changed[part] = None
            case Stopping() if not self._unread:
                self._totals.close_all(event.at, self._placed)
                return list(self._write(event.at, everything=True))
        return ()

    def plan(self, at: Seconds) -> Sequence[Instruction]:
        """Its tick: sums of windows that are over, and some pages."""
        self._at = max(self._at, at)
        self._totals.close(at, self._placed)
        said: list[Instruction] = []
        if at >= self._looked + HOUR:
            self._looked = at
            said += self._forget(at)
        if self._refused:
            said += [Count(SKIPPED, by=self._refused, labels={"why": "untracked"})]
            self._refused = 0
        return [*said, *self._write(at)]

    def validate(self) -> None:
        """See Desk."""
        if not self._unread:
            self._containers.validate()
            self._totals.validate()

    def _hear_report(self, report: NodeUsage, at: Seconds) -> list[Instruction]:
        reports = self._reports
        why = reports.fold(report, at)
        said: list[Instruction] = [Count(SAMPLES, by=reports.samples)] if reports.samples else []
        reports.samples = 0
        said += counts(SKIPPED, reports.skipped)
        reports.skipped.clear()
        return said + self._say("history.report.refused", report.node, why) if why else said

    def _hear_past(self, told: PastUsage, at: Seconds) -> list[Instruction]:
        taken, strange, why = self._past.fold(told, at)
        said: list[Instruction] = [Count(PAST_VALUES, by=taken, labels={"outcome": "taken"})] if taken else []
        said += [Count(PAST_VALUES, by=strange, labels={"outcome": "unknown"})] if strange else []
        if not why:
            return said
        line = f"{key_of(told)}/{told.container} {told.resource}"
        return [*said, Count(SKIPPED, labels={"why": f"past {why}"}), *self._say("history.past.refused", line, why)]

    def _say(self, event: str, about: str, why: str) -> list[Instruction]:
        if (about, why) in self._said or len(self._said) >= MOST_SAID:
            return []
        self._said.add((about, why))
        return [TellHistory(event, about, why)]

    def _placed(self, node: str) -> Iterator[str]:
        known = self._cluster.nodes.get(node)
        return (pod.key for pod in self._cluster.pods_of(known)) if known else iter(())

    def _forget(self, at: Seconds) -> list[Instruction]:
        tables = (self._containers.rows, self._totals.services)
        is_tight = any(len(rows) > TIGHT * rows.most for rows in tables)
        before = at - (DAY if is_tight else self._settings.forget_after)
        forgotten = self._containers.forget(before) + self._totals.forget(before)
        self._reports.forget([node for node in self._reports.nodes if node not in self._totals.nodes.row_of])
        return [Count(FORGOTTEN, by=forgotten)] if forgotten else []

    # -- pages ---------------------------------------------------------------------------------------------------------

    def _take(self, message: HistoryPage, at: Seconds) -> list[Instruction]:
        try:
            page = unpacked(message)
            self._keeping.take(page, at)
        except InputError as error:
            said = self._say("history.page.refused", message.page, str(error))
            return [Count(PAGES, labels={"outcome": "refused"}), *said]
        self._written[message.page] = (message.at, zlib.crc32(message.what))
        return [Count(PAGES, labels={"outcome": "read"})]

    def _write(self, at: Seconds, *, everything: bool = False) -> Iterator[Instruction]:
        settings, keeping = self._settings, self._keeping
        if everything or at >= self._settled + settings.write_every:
            self._settled = at
            for measures in self._containers.measures.values():
                measures.hours.settle()
        parts = {name: (ring, part) for name, ring, part in keeping.parts()}
        names = [*keeping.names(), *parts]
        if not everything:
            names = [name for name in names if self._last(name) <= at - settings.write_every]
            share = round(len(names) * settings.tick / settings.write_every)
            names = sorted(names, key=self._last)[: min(max(share, FEWEST), MOST_PAGES)]
        self._asked = {name: parts[name] for name in names if name in parts}
        for name in names:
            page, rows = keeping.part(*parts[name]) if name in parts else keeping.table(name)
            message = packed(name, page, rows, at)
            checksum = zlib.crc32(message.what)
            if self._written.get(name, (0.0, None))[1] != checksum:
                yield Put(HISTORY.at(page=name), message)
                yield Count(PAGES, labels={"outcome": "written"})
            self._written[name] = (at, checksum)

    def _last(self, name: str) -> Seconds:
        return self._written.get(name, (0.0, None))[0]

    # -- a Record ------------------------------------------------------------------------------------------------------

    def total(self, key: str, resource: str) -> Series | None:
        """See Record."""
        return self._totals.series(key, resource)

    def replicas(self, key: str) -> Series | None:
        """See Record."""
        return self._totals.series(key, "replicas")

    def track(self, key: str) -> None:
        """See Record."""
        self._refused += not self._totals.track(key)

    def node(self, node: str, resource: str, how: How = "avg") -> Series | None:
        """See Record."""
        return self._totals.node(node, resource, how)

    def nodes(self) -> Sequence[str]:
        """See Record."""
        return sorted(self._totals.nodes.row_of)

    def container(self, key: str, container: str) -> ContainerRecord | None:
        """See Record."""
        return self._containers.record((key, container), self._at)

    def containers(self, key: str) -> Sequence[str]:
        """See Record."""
        return self._containers.names(key)

    def keys(self) -> Sequence[str]:
        """See Record."""
        return sorted(self._totals.services.row_of)
