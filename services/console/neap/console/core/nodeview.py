"""`neap node NAME`: what one node is asked to do, what it can give and why exactly that much, and how it is enforced.

pools        dedicated 2-9 (8.0 needed) │ share 10-23 (12.6 needed) │ reclaimed 24-31
offer        cpu     9.5 = 32 capacity − 1 reserved − 20.0 online × 1.10
enforcement  cgroup, following advice 812 (nri: no socket at /var/run/nri/nri.sock)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from neap.common.model.advice import Headroom, NodeAdvice
from neap.common.model.describe import describe_usage, headline
from neap.common.model.enforcement import NodeEnforcement, Rung
from neap.common.model.topology import NodeTopology
from neap.common.model.usage import NodeUsage
from neap.common.units import Seconds, format_duration

LABEL: Final = 13  # characters
NO_CPU: Final = "no CPU"


@dataclass
class NodeView:
    """The newest of everything about one node."""

    name: str
    topology: NodeTopology | None = None
    usage: NodeUsage | None = None
    advice: NodeAdvice | None = None
    headroom: Headroom | None = None
    enforcement: NodeEnforcement | None = None

    def see(self, message: Any) -> None:
        """Fold one message."""
        match message:
            case NodeTopology():
                self.topology = message
            case NodeUsage():
                self.usage = message
            case NodeAdvice():
                self.advice = message
            case Headroom():
                self.headroom = message
            case NodeEnforcement():
                self.enforcement = message

    @property
    def is_known(self) -> bool:
        """Whether anybody ever said anything about it."""
        return any((self.topology, self.usage, self.advice, self.headroom, self.enforcement))

    @property
    def is_whole(self) -> bool:
        """Whether a usage report was heard that lists every container."""
        return self.usage is not None and not self.usage.since

    def text(self, now: Seconds) -> str:
        """Everything, for people; unknown is said."""
        head = headline(self.topology) if self.topology else f"{self.name}  (its topology is unknown)"
        lines = [head, "", *self._pools(now), *self._offer(), *self._enforcement(now)]
        if self.usage is None:
            return "\n".join([*lines, *_row("usage", "unknown: no report heard")])
        shown = describe_usage(self.usage, self.topology)
        return "\n".join([*lines, *_row("data age", format_duration(max(0.0, now - self.usage.at))), "", shown])

    def _pools(self, now: Seconds) -> Iterator[str]:
        advice = self.advice
        if advice is None:
            yield from _row("pools", "unknown: no advice yet")
            return
        wide = max((len(pool.cpus) for pool in advice.pools), default=0)
        for index, pool in enumerate(advice.pools):
            cpus = f"{pool.cpus or NO_CPU:<{max(wide, len(NO_CPU))}}"
            yield from _row("pools" if index == 0 else "", f"{pool.name:<12} {cpus}  {pool.reason}")
        left = advice.expires - now
        valid = f"valid for {format_duration(left)}" if left > 0 else f"lapsed {format_duration(-left)} ago"
        stale = f"; conservative: {advice.stale}" if advice.stale else ""
        yield from _row("advice", f"{advice.seq}, {valid}{stale}")

    def _offer(self) -> Iterator[str]:
        if self.headroom is None:
            yield from _row("offer", "unknown: no headroom yet")
            return
        for index, (kind, arithmetic) in enumerate(sorted(self.headroom.arithmetic.items())):
            yield from _row("offer" if index == 0 else "", f"{kind.rpartition('/')[2]:<18} {arithmetic}")
        if self.headroom.stale:
            yield from _row("", f"conservative: {self.headroom.stale}")

    def _enforcement(self, now: Seconds) -> Iterator[str]:
        held = self.enforcement
        if held is None:
            yield from _row("enforcement", "unknown: no enforcer heard")
            return
        since = format_duration(max(0.0, now - held.at))
        yield from _row("enforcement", f"{held.rung}, {held.stance} for {since}: {held.why}")
        for rung in Rung:
            if rung is not held.rung and rung in held.probes:
                yield from _row("", f"{rung}: {held.probes[rung]}")
        for knob, why in sorted(held.unsupported.items()):
            yield from _row("", f"{knob} unsupported: {why}")


def _row(label: str, text: str) -> Iterator[str]:
    yield f"{label:<{LABEL}}{text}".rstrip()
