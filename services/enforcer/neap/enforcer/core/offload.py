"""Bringing a cgroup down to a level without hurting it (transparent memory offloading).

    step = min(current − level, largest step, current × ratio × calm)                                      [bytes]
    calm = max(0, 1 − stalled / stall limit) × max(0, 1 − returned / return limit)                         [0..1]
    returned = refaulted pages / stolen pages, since the last step; 0 where nothing was stolen             [0..1]

`stalled` is memory.pressure's some avg10. As long as a cgroup waits for memory, or the pages it lost come straight
back, nothing more is taken; so reclaim stops by itself where the working set begins. One order (one advice) is one
campaign: it ends at the level, at the end of what the kernel can take, or with the next order. A cgroup whose
pressure cannot be read is left alone.
Source: Weiner et al., TMO: Transparent Memory Offloading in Datacenters, ASPLOS 2022, §3.3 (reclaim = current ×
ratio × max(0, 1 − PSI / threshold)); the returned share is the accuracy of katalyst-core's refault policy (idea).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from neap.common.errors import InputError
from neap.common.units import MIB, Bytes, Ratio, Seconds, format_bytes
from neap.enforcer.core.instruction import Outcome, Write
from neap.enforcer.core.knob import Site, whole
from neap.enforcer.core.kubepods import Tree
from neap.enforcer.settings import Offloading

SMALLEST: Final = MIB  # a smaller step is not worth a system call; the last step may be smaller
CURRENT, PRESSURE, STAT = "memory.current", "memory.pressure", "memory.stat"
Target = tuple[str, str]  # (target, file)


class Reading(NamedTuple):
    """What a cgroup's memory does; None: unknown."""

    current: Bytes
    stalled: Ratio | None
    refaulted: int = 0  # pages, ever
    stolen: int = 0  # pages, ever


def step(now: Reading, before: Reading | None, level: Bytes, settings: Offloading) -> tuple[Bytes, str]:
    """How much to take now; with 0 the reason. See module docstring."""
    excess = now.current - level
    if excess <= 0:
        return 0, f"{format_bytes(now.current)} is at the level of {format_bytes(level)}"
    if now.stalled is None:
        return 0, f"{PRESSURE} cannot be read"
    stolen = max(0, now.stolen - before.stolen) if before is not None else 0
    refaulted = max(0, now.refaulted - before.refaulted) if before is not None else 0
    returned = min(1.0, refaulted / stolen) if stolen else 0.0
    calm = max(0.0, 1 - now.stalled / settings.stall) * max(0.0, 1 - returned / settings.returned)
    if calm <= 0:
        stalls = f"{now.stalled:.2%} of the time stalled (limit {settings.stall:.2%})"
        return 0, f"stopped at {format_bytes(now.current)}: {stalls}, {returned:.1%} of what was taken came back"
    wished = max(SMALLEST, int(now.current * settings.ratio * calm))
    return min(excess, settings.largest_step, wished), ""


@dataclass
class _Campaign:
    """One order under way."""

    level: Bytes
    seq: int
    before: Reading | None = None
    told: bool = False  # that it stands still


class Offload:
    """The campaigns of a node."""

    def __init__(self, settings: Offloading, period: Seconds) -> None:
        self._settings, self._period = settings, period
        self._not_before: Seconds = 0.0  # a node is looked at more often than it is squeezed
        self._campaigns: dict[Target, _Campaign] = {}

    @property
    def orders(self) -> tuple[Target, ...]:
        """What is under way; to be observed."""
        return tuple(self._campaigns)

    def order(self, levels: Mapping[Target, str], seq: int) -> None:
        """Exactly these, each from its beginning; what the last step did is remembered."""
        before = {target: campaign.before for target, campaign in self._campaigns.items()}
        self._campaigns = {target: _Campaign(int(level), seq, before.get(target)) for target, level in levels.items()}

    def writes(
        self, tree: Tree, texts: Mapping[Site, str | None], at: Seconds
    ) -> tuple[list[Write], dict[Site, tuple[str, str]]]:
        """The steps of this period, and which stand still: site -> (level, why). Who gets no turn is first next time."""
        writes: list[Write] = []
        still: dict[Site, tuple[str, str]] = {}
        left = self._settings.most_at_once if at >= self._not_before else 0
        for target, campaign in list(self._campaigns.items()):
            path = tree.path_of(target[0])
            now = None if path is None else read(path, texts)
            if now is None or path is None or left <= 0:
                continue
            amount, why = step(now, campaign.before, campaign.level, self._settings)
            site = Site(path, target[1])
            if now.current <= campaign.level:
                del self._campaigns[target]
            elif amount:
                amount = min(amount, left)
                left -= amount
                told = f"advice {campaign.seq}: down to {format_bytes(campaign.level)}"
                writes.append(Write(site, str(amount), f"{now.current}", told))
                campaign.before, campaign.told = now, False
                self._campaigns[target] = self._campaigns.pop(target)  # the last one in turn
            elif not campaign.told:
                campaign.told = True
                still[site] = (str(campaign.level), why)
        if writes:
            self._not_before = at + 0.9 * self._period  # a tick may come a little early
        return writes, still

    def written(self, tree: Tree, write: Write, outcome: Outcome) -> None:
        """What could not be taken whole ends the campaign: there is no more to be had."""
        if outcome.why:
            self._campaigns = {
                target: campaign
                for target, campaign in self._campaigns.items()
                if tree.path_of(target[0]) != write.site.cgroup
            }


def read(cgroup: str, texts: Mapping[Site, str | None]) -> Reading | None:
    """What the files of a cgroup say; None where memory.current does not say a number."""
    current, pressure, stat = (texts.get(Site(cgroup, file)) for file in (CURRENT, PRESSURE, STAT))
    try:
        count = whole(current or "")
    except InputError:
        return None
    counters = dict(_counters(stat or ""))
    refaulted = sum(number for name, number in counters.items() if name.startswith("workingset_refault"))
    return Reading(count, _stalled(pressure or ""), refaulted, counters.get("pgsteal", 0))


def _stalled(text: str) -> Ratio | None:
    """Some avg10 of a pressure file."""
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["some"] and words[1:] and words[1].startswith("avg10="):
            try:
                return float(words[1].removeprefix("avg10=")) / 100
            except ValueError:
                return None
    return None


def _counters(text: str) -> list[tuple[str, int]]:
    pairs = (line.split() for line in text.splitlines())
    return [(pair[0], int(pair[1])) for pair in pairs if len(pair) == 2 and pair[1].isdigit()]
