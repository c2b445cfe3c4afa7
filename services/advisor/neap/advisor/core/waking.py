"""From one life to the next: what an advisor gathers before its first round, and how it goes on from there.

    said        the last advice tells which CPUs everybody has, the last headroom what guests are offered
    remembered  what led to it, as of some reports ago: see remembered.py
    missed      the reports since then: the reporter keeps the newest, and is asked for them
    relived     every missed report and ledger entry, in order, on top of what is remembered; where advice or headroom
                was said in between, that word stands

So whoever was killed, or away for a while, decides as if it had been there. Where reports are missing (no reporter, or
one that is new itself, or too long ago), what is remembered is put on top of what was said, and no more.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, islice
from typing import Any, Final, TypeAlias

import msgspec

from neap.advisor.core import remembered
from neap.advisor.core.hearing import Heard
from neap.advisor.core.layout import Layout
from neap.advisor.core.memory import MemoryPlan, advised, capacity_of
from neap.advisor.core.mind import Mind
from neap.advisor.core.plan import adopt
from neap.advisor.core.remembered import Memory
from neap.advisor.core.story import Told
from neap.advisor.settings import Settings
from neap.common.contract.catalogue import ADVICE, HEADROOM, NODES, PLACEMENTS, POLICY, TOPOLOGY
from neap.common.contract.channel import LEDGER_LIMIT, Channel
from neap.common.cpuset import parse_cpuset
from neap.common.model.advice import Headroom, NodeAdvice
from neap.common.model.placement import Checkpoint, LedgerEntry, Placed, Placement, Released, fold
from neap.common.model.resource import RECLAIMED_CPU, RECLAIMED_MEMORY
from neap.common.model.topology import NodeTopology
from neap.common.model.usage import NodeUsage, Reports, ReportsRequest
from neap.common.runtime.machine import Decide, Instruction
from neap.common.units import Seconds

STORED: Final = (TOPOLOGY, PLACEMENTS, ADVICE, HEADROOM, POLICY, NODES)  # what must be known before anything is decided
MOST: Final = 64  # reports that come before the first round
Happened: TypeAlias = NodeUsage | LedgerEntry | NodeAdvice | Headroom


@dataclass(frozen=True, slots=True)
class AskReports(Instruction):
    """Ask the node's reporter. Answers Done(Reports)."""

    request: ReportsRequest


class Waking:
    """See module docstring. Of no use any more once `is_over`."""

    def __init__(self) -> None:
        self.unsynced: list[Channel[Any]] = [*STORED]
        self.offered: Headroom | None = None  # by an earlier life
        self.memory = Memory()  # what an earlier life knew
        self.heard: Heard | None = None  # what it heard
        self.is_over = False
        self.is_asking = False
        # (sequence, entry): all that are stored, and as many that come meanwhile
        self._entries: deque[tuple[int, LedgerEntry]] = deque(maxlen=2 * LEDGER_LIMIT)
        self._reports: deque[NodeUsage] = deque(maxlen=MOST)  # that came before the first round
        self.told = Reports()  # by the reporter, so far

    def recall(self, memory: Memory, at: Seconds, patience: Seconds) -> None:
        """What an earlier life knew; made use of once everything stored is known.

        Raises:
            InputError: none can have known that.
        """
        remembered.check_memory(memory)
        self.memory, heard = memory, remembered.heard_before(memory)
        self.heard = heard if heard is not None and heard.usage.at <= at + patience else None

    def entry(self, entry: LedgerEntry, seq: int) -> None:
        """The ledger says; `seq`: of its stream."""
        if not self.is_over:
            self._entries.append((seq, entry))

    def report(self, usage: NodeUsage) -> None:
        """The reporter says, before the first round."""
        self._reports.append(usage)

    def page(self, told: Reports) -> Sequence[Instruction]:
        """A part of the answer; what is still to be asked."""
        self.told = Reports(reports=(*self.told.reports, *told.reports), complete=told.complete)
        if not (told.more and told.complete and told.reports):
            return ()
        return [AskReports(ReportsRequest(after=told.reports[-1].seq))]

    def ask(self) -> Sequence[Instruction]:
        """For the reports since the memory was written; nothing where it does not say since when."""
        self.is_asking = self.heard is not None
        return [AskReports(ReportsRequest(after=self.heard.usage.seq))] if self.heard is not None else []

    def over(self, old: Seconds = -math.inf) -> Sequence[NodeUsage]:
        """The reporter has answered, or will not; what it said before the first round.

        Since a report from before `old` others may have come that nobody knows of.
        """
        if self.heard is not None and self.heard.usage.at < old:
            self.heard = replace(self.heard, known=False)
        self.is_over, self.is_asking, self.memory = True, False, Memory()
        came, self.told = tuple(self._reports), Reports()
        self._reports.clear()
        self._entries.clear()
        return came

    # -- what happened since the last report that is in the memory ---------------------------------------------------

    def held(self) -> dict[str, Placement]:
        """What the ledger held then."""
        held: dict[str, Placement] = {}
        for _, entry in islice(self._entries, self._known):
            held = fold(held, entry)
        return held

    @property
    def _known(self) -> int:
        """Entries that were there then; a checkpoint stands for what went before it."""
        known = self.memory.ledger
        later = next((n for n, (seq, _) in enumerate(self._entries) if seq > known > 0), len(self._entries))
        return max(later, 1) if self._entries and isinstance(self._entries[0][1], Checkpoint) else later

    def since(self, told: Reports, advice: NodeAdvice | None) -> list[tuple[Seconds, Happened]]:
        """All that happened, and when, in order; of one moment reports before entries, and words last."""
        reports = {report.seq: report for report in (*told.reports, *self._reports)}
        words = [said for said in (advice, self.offered) if said is not None]
        happened: list[tuple[Seconds, Happened]] = [(one.at, one) for one in reports.values()]
        happened += [*self._missed(advice), *((one.at, one) for one in words)]
        return sorted(happened, key=_moment)

    def _missed(self, advice: NodeAdvice | None) -> Iterator[tuple[Seconds, LedgerEntry]]:
        """The entries since then, and when: by another's clock, so their order counts first.

        Who was advised had come by then, and who was not had gone: so had all that the ledger says before that.
        """
        entries = [entry for _, entry in islice(self._entries, self._known, None)]
        moments = [*accumulate((entry.at for entry in entries), max)]
        if advice is not None and self.heard is not None and advice.at >= self.heard.usage.at:
            before = _heard_by(advice, entries, self.held())
            moments[:before] = [min(moment, advice.at) for moment in moments[:before]]
        yield from zip(moments, entries, strict=True)


def _moment(one: tuple[Seconds, Happened]) -> Seconds:
    return one[0]


def _heard_by(advice: NodeAdvice, entries: Sequence[LedgerEntry], held: Mapping[str, Placement]) -> int:
    """How many of the entries, at least, whoever said this advice had heard. `held`: before them, by uid."""
    told, changed, heard = {cgroup.target for cgroup in advice.cgroups}, set[str](), 0
    for number, entry in enumerate(entries, 1):
        if isinstance(entry, Placed | Released):
            uid = entry.placement.workload.uid if isinstance(entry, Placed) else entry.uid
            came = isinstance(entry, Placed)
            if uid not in changed and came != (uid in held) and came == (f"pod/{uid}" in told):
                heard = number
            changed.add(uid)
    return heard


def take_over(mind: Mind, advice: NodeAdvice, layout: Layout, settings: Settings, start: Any) -> None:
    """CPUs stay where they are; whoever was advised before is known and has been told. `start`: of the policy.

    Raises:
        InputError: the advice has a malformed CPU list.
    """
    mind.recall = adopt(advice, layout, settings.calm_rounds, start, behind=settings.overlap)
    mind.memory = MemoryPlan(advised(advice))
    for cgroup in advice.cgroups:
        uid = cgroup.target.removeprefix("pod/")
        if uid in mind.tracks:
            mind.tracks[uid].reports = settings.settle
            mind.told[uid] = Told(advice.at, len(parse_cpuset(cgroup.knobs.cpus or "")))


def go_on(mind: Mind, waking: Waking, most: Mapping[str, int], settings: Settings, start: Any, seq: int) -> None:
    """Put what is remembered on top of what the last advice (`seq`) tells; of pods that are still here.

    Raises:
        InputError: a pool's memory is none of the policy.
    """
    memory = waking.memory
    mind.recall = remembered.pools_again(mind.recall, memory, start, seq=seq, provision=settings.provision)
    mind.told |= remembered.pods_again(mind.tracks, memory)
    mind.memory = replace(mind.memory, moved=memory.moved)
    mind.lending = remembered.lending_again(memory.lending, waking.offered, most)


def go_back(
    mind: Mind, memory: Memory, most: Mapping[str, int], layout: Layout, settings: Settings, start: Any
) -> None:
    """To when the memory was written; of pods, see pods_again.

    Raises:
        InputError: nobody can have remembered that; nothing has changed then.
    """
    recall = remembered.cut_again(memory, layout, start)
    mind.recall = remembered.pools_again(recall, memory, start, seq=memory.seq, provision=settings.provision)
    mind.lending = remembered.lending_again(memory.lending, None, most)


def hold_to(mind: Mind, advice: NodeAdvice, layout: Layout, settings: Settings, start: Any) -> None:
    """This was said then: whoever relives it has the same CPUs and memory limits, whatever it would say now."""
    said = adopt(advice, layout, settings.calm_rounds, start, behind=settings.overlap)
    pools = {name: mind.recall.pools.get(name, pool) for name, pool in said.pools.items()}
    mind.recall = replace(said, pools=pools, watches=mind.recall.watches)
    mind.memory = MemoryPlan(advised(advice), moved=mind.memory.moved)


def offer_again(mind: Mind, said: Headroom, most: Mapping[str, int]) -> None:
    """This was offered then."""
    if mind.lending is None or mind.lending.offer != said.offer:
        mind.lending = remembered.lending_again(mind.lending, said, most)


def most_of(topology: NodeTopology, layout: Layout) -> dict[str, int]:
    """The most of each kind that this machine can lend."""
    return {RECLAIMED_CPU: 1000 * len(layout.usable), RECLAIMED_MEMORY: capacity_of(topology)}


def told_now(said: Sequence[Instruction], at: Seconds) -> Iterator[Instruction]:
    """Reports of a while ago are heard with the ledger of today: what comes of it is decided now, and told as of now."""
    for one in said:
        yield replace(one, entry=msgspec.structs.replace(one.entry, at=at)) if isinstance(one, Decide) else one
