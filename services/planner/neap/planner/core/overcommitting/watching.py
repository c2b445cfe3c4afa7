"""The interference watch: on a node where somebody suffers, nothing more is sold than what runs.

    a pair that its advisor keeps apart (an owner and the guest that slows it down)   cpu, until the pair ends
    a pressure that has lasted for `patience`                                         its kind, until `hold` after it

One spike changes nothing. A pressure of which nobody said that it is over ends after a day.
Source: requirements 002-53.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from neap.common.contract.catalogue import APART
from neap.common.model.apart import Apart
from neap.common.model.resource import CPU, MEMORY
from neap.common.model.usage import Pressure, PressureKind
from neap.common.runtime.machine import Arrived, Event, Gone
from neap.common.units import DAY, Seconds

MOST_METRICS: Final = 64  # of one node
KINDS: Final = {PressureKind.CPU: CPU, PressureKind.MEMORY: MEMORY}


class Cause(NamedTuple):
    """Why a kind is not sold beyond what runs, and until when."""

    why: str
    until: Seconds


@dataclass(slots=True)
class _Strain:
    """A pressure: when it rose, and when it was over."""

    risen: Pressure
    over: Seconds | None = None


class Watch:
    """See module docstring."""

    news: Final = (Apart, Pressure)

    def __init__(self) -> None:
        self._apart: dict[str, Apart] = {}
        self._strains: dict[str, dict[tuple[str, str], _Strain]] = {}  # by node, kind and metric

    def hear(self, event: Event) -> str:
        """Fold one event; the node it is about, or nothing."""
        match event:
            case Arrived(message=Apart() as said):
                self._apart[said.node] = said
                return said.node
            case Gone(channel=channel, subject=subject) if channel == APART:
                node = channel.tokens_of(subject)["node"]
                self._apart.pop(node, None)
                return node
            case Arrived(message=Pressure(node=node) as told) if told.kind in KINDS:
                self._press(told, min(told.at, event.at))
                return node
        return ""

    def forget(self, node: str) -> None:
        """A node is gone."""
        self._apart.pop(node, None)
        self._strains.pop(node, None)

    def cause(self, node: str, kind: str, at: Seconds, *, patience: Seconds, hold: Seconds) -> Cause | None:
        """The one that lasts longest; None: nobody suffers."""
        return max(self._causes(node, kind, at, patience, hold), key=lambda cause: cause.until, default=None)

    def _causes(self, node: str, kind: str, at: Seconds, patience: Seconds, hold: Seconds) -> Iterator[Cause]:
        apart = self._apart.get(node)
        for pair in apart.pairs if apart is not None and kind == CPU else ():
            if pair.until > at:
                yield Cause(f"{pair.guest} slows {pair.owner} down: {pair.why}", pair.until)
        for (short, metric), strain in self._strains.get(node, {}).items():
            began, over = strain.risen.at, strain.over
            until = began + DAY if over is None else over + hold
            lasted = (at if over is None else over) - began
            if short == kind and lasted >= patience and until > at:
                said = f"{metric} {strain.risen.value:.3g} over {strain.risen.threshold:.3g}"
                yield Cause(f"{kind} is short, {said}" + ", and still is" * (over is None), until)

    def _press(self, told: Pressure, at: Seconds) -> None:
        mine, key = self._strains.setdefault(told.node, {}), (KINDS[told.kind], told.metric)
        strain = mine.get(key)
        if told.risen and (strain is None or strain.over is not None):
            if key in mine or len(mine) < MOST_METRICS:
                mine[key] = _Strain(told)
        elif not told.risen and strain is not None and strain.over is None:
            strain.over = max(at, strain.risen.at)
