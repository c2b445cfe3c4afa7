"""What goes into the pages, table by table, and back into the tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

from neap.common.errors import InputError
from neap.common.units import HOUR, Seconds
from neap.planner.core.history.carrying import Carried, blocks, fits, measured, place, taken_rows, times_of
from neap.planner.core.history.containers import RESOURCES, Containers
from neap.planner.core.history.pages import ContainerRows, Killed, Lines, Page, RingPart, Told, floats, numbers
from neap.planner.core.history.past import Past
from neap.planner.core.history.ring import Part, Ring
from neap.planner.core.history.rows import Rows
from neap.planner.core.history.totals import Totals

CONTAINER_ROWS: Final = 256  # of a page: at most 1.4 KB of histograms each, and names
TABLE_ROWS: Final = 1500
LINE_PAGES: Final = 8
TABLE_OF: Final = {"day": "services", "weeks": "tracked", "fortnight": "nodes"}  # by ring of totals
BEYOND: Final[Seconds] = HOUR  # a row's page may be so much older than a ring's


class Keeping:
    """Makes pages of everything, and takes them in."""

    def __init__(self, containers: Containers, totals: Totals, past: Past) -> None:
        self._containers, self._totals, self._past = containers, totals, past
        self.tables: Mapping[str, Rows[str]] = {
            "services": totals.services, "nodes": totals.nodes, "tracked": totals.tracked
        }  # fmt: skip
        self.rings: Mapping[str, Ring] = {
            **{name: measures.hours.ring for name, measures in containers.measures.items()},
            "day": totals.day, "weeks": totals.weeks, "fortnight": totals.fortnight,
        }  # fmt: skip

    def names(self) -> Iterator[str]:
        """Of the pages of all tables."""
        yield from (f"containers-{i}" for i in range(blocks(self._containers.rows.used, CONTAINER_ROWS)))
        for table, rows in self.tables.items():
            yield from (f"{table}-{i}" for i in range(blocks(rows.used, TABLE_ROWS)))
        if self._past.told:
            yield from (f"past-{i}" for i in range(LINE_PAGES))

    def parts(self) -> Iterator[tuple[str, str, Part]]:
        """Name, ring and part of all pages of rings that changed."""
        for name, ring in self.rings.items():
            for stretch, block in ring.changed:
                yield f"{name}-{stretch % (ring.count // ring.stretch)}-{block}", name, (stretch, block)

    # -- out -----------------------------------------------------------------------------------------------------------

    def table(self, name: str) -> tuple[Page, int]:
        """A page of a table, and how many rows are in it."""
        table, _, block = name.rpartition("-")
        if table == "containers":
            return self._container_rows(int(block))
        if table == "past":
            return self._lines(int(block))
        rows, extra = self.tables[table], self._totals.counting if table == "services" else {}
        chosen = taken_rows(rows, int(block), TABLE_ROWS)
        keys = [rows.keys[row] or "" for row in chosen]
        told = [extra.get(row, "") for row in chosen]
        return Told(table=table, rows=chosen, keys=keys, times=times_of(rows, chosen), extra=told), len(chosen)

    def part(self, ring: str, part: Part) -> tuple[Page, int]:
        """A page of a ring; it is as it was written, then."""
        of = self.rings[ring]
        of.changed.pop(part, None)
        rows = min(of.block, of.top - part[1] * of.block)
        size = (of.block, of.stretch)
        page = RingPart(
            ring=ring, part=part, size=size, rows=rows, newest=of.newest, length=of.length, planes=of.part(part)
        )
        return page, rows

    def _container_rows(self, block: int) -> tuple[Page, int]:
        containers = self._containers
        chosen = taken_rows(containers.rows, block, CONTAINER_ROWS)
        keys = [containers.rows.keys[row] or ("", "") for row in chosen]
        ooms = [(row, oom) for row in chosen for oom in containers.ooms.get(row, ())]
        page = ContainerRows(
            rows=chosen,
            services=[service for service, _ in keys],
            names=[name for _, name in keys],
            times=times_of(containers.rows, chosen),
            samples=containers.samples[chosen].tobytes(),
            turn=containers.turn,
            kills=[Killed(row, oom.at, oom.uid, oom.had) for row, oom in ooms],
            cpu=measured(containers.measures["cpu"], chosen),
            memory=measured(containers.measures["memory"], chosen),
        )
        return page, len(chosen)

    def _lines(self, block: int) -> tuple[Page, int]:
        found = [
            (line, *span) for line, spans in self._past.told.items() if line % LINE_PAGES == block for span in spans
        ]
        lines = np.array([line for line, *_ in found], np.uint64)
        spans = np.array([span for _, *span in found], np.float64)
        return Lines(lines=lines.tobytes(), spans=spans.tobytes()), len(found)

    # -- in ------------------------------------------------------------------------------------------------------------

    def take(self, page: Page, now: Seconds) -> None:
        """Take a page as it was written.

        Raises:
            InputError: it does not fit; nothing has changed.
        """
        try:
            match page:
                case Told():
                    self._take_rows(page)
                case ContainerRows():
                    self._take_containers(page)
                case RingPart():
                    self._take_part(page, now)
                case Lines():
                    self._take_lines(page)
        except (ValueError, KeyError, IndexError) as error:
            raise InputError(f"of another shape: {error}") from None

    def settle(self) -> None:
        """After the last page: what belongs to whom."""
        self._containers.rows.settle()
        for table in self.tables.values():
            table.settle()
        self._containers.know_again()
        for name, ring in self.rings.items():
            rows: Rows[Any] = self._containers.rows if name in RESOURCES else self.tables[TABLE_OF[name]]
            first, last = rows.first[: ring.top], rows.last[: ring.top]
            is_known = np.isfinite(first)
            ring.keep(
                np.where(is_known, np.where(is_known, first, 0.0) // ring.length, np.inf),
                np.where(is_known, (last + BEYOND) // ring.length, -np.inf),
            )

    def _take_rows(self, page: Told) -> None:
        rows, times = self.tables[page.table], floats(page.times, 4, len(page.rows))
        fits(rows, page.rows, page.keys, page.extra)
        for index, row in enumerate(page.rows):
            if place(rows, row, page.keys[index], times[:, index]) and page.table == "services" and page.extra[index]:
                self._totals.counting[row] = page.extra[index]

    def _take_containers(self, page: ContainerRows) -> None:
        containers, count = self._containers, len(page.rows)
        times, samples = floats(page.times, 4, count), numbers(page.samples, np.int64, count)
        fits(containers.rows, page.rows, page.services, page.names, page.cpu.worst_uid, page.memory.worst_uid)
        read = [Carried(getattr(page, name), containers.measures[name], count) for name in RESOURCES]
        keys = list(zip(page.services, page.names, strict=True))
        placed = zip(page.rows, keys, times.T, strict=True)
        chosen = np.flatnonzero([place(containers.rows, row, key, known) for row, key, known in placed])
        rows = np.array(page.rows, np.intp)[chosen]
        containers.samples[rows] = samples[chosen]
        containers.turn = max(containers.turn, page.turn)
        for each in read:
            each.put(rows, chosen)
        for kill in page.kills:
            if kill.row in rows:
                containers.note_oom(kill.row, kill.at, kill.uid, kill.had)

    def _take_part(self, page: RingPart, now: Seconds) -> None:
        ring = self.rings[page.ring]
        if (page.size, page.length) != ((ring.block, ring.stretch), ring.length):
            raise ValueError(f"blocks of {page.size} windows of {page.length} s")
        if not 0 <= page.rows <= ring.block or page.part[1] < 0:
            raise ValueError(f"{page.rows} rows in block {page.part[1]}")
        if min(page.newest, page.part[0] * ring.stretch) * ring.length > now + HOUR:
            raise ValueError(f"window {page.part[0] * ring.stretch} is yet to come")
        newest = min(page.newest, int((now + HOUR) // ring.length))
        ring.restore(page.part, page.rows, newest, page.planes)

    def _take_lines(self, page: Lines) -> None:
        lines = numbers(page.lines, np.uint64, -1).tolist()
        spans = floats(page.spans, len(lines), 2).tolist()
        for line, (start, end) in zip(lines, spans, strict=True):
            self._past.told[line] = (*self._past.told.get(line, ()), (start, end))
