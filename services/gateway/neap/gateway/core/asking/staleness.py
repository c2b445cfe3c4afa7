"""How old what is known may be, for each thing that is done about it: deciding goes on, acting has a limit.

age(kind) = at − since, from Stale until the next Seen or Complete; else 0
an act is done while the age of every kind it rests on is within the act's budget
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from neap.common.units import Seconds
from neap.gateway.core.hearing.reflector import Complete, Removed, Said, Seen, Stale

Budget = Annotated[Seconds, Meta(ge=0)]
RESTS_ON: Final[Mapping[str, tuple[str, ...]]] = {
    "evict": ("pods", "poddisruptionbudgets.policy"),
    "bind": ("pods", "nodes"),
    "resize": ("pods",),
    "scale": ("deployments.apps", "statefulsets.apps", "horizontalpodautoscalers.autoscaling"),
    "mirror": ("nodes",),
    "taint": ("nodes",),
}


class StalenessSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long each act goes on with what was known when the API server was last heard."""

    evict: Budget = 30.0  # somebody may have gone by himself meanwhile
    bind: Budget = 300.0  # the API server refuses what does not hold any more
    resize: Budget = 60.0  # of pods that run
    scale: Budget = 120.0  # replicas, and who else counts them
    mirror: Budget = 600.0  # what nodes can lend
    taint: Budget = 300.0  # nodes that take no guests


class Staleness:
    """What is not known any more, and what is therefore not done."""

    def __init__(self, settings: StalenessSettings) -> None:
        self._budget: dict[str, Seconds] = msgspec.structs.asdict(settings)
        self._since: dict[str, tuple[Seconds, str]] = {}  # kind -> when, why
        self._complete: set[str] = set()

    def hear(self, said: Said) -> None:
        """Fold what a reflector says."""
        kind = str(said.kind)
        match said:
            case Stale(since=since, why=why):
                self._since[kind] = (since, why)
            case Seen():
                self._since.pop(kind, None)
            case Complete():
                self._since.pop(kind, None)
                self._complete.add(kind)
            case Removed():
                pass

    def age(self, kind: str, at: Seconds) -> Seconds:
        """How old what is known of a kind may be; infinite before it was read to its end."""
        if kind not in self._complete:
            return math.inf
        return at - self._since[kind][0] if kind in self._since else 0.0

    def oldest(self, at: Seconds) -> Seconds:
        """Of all kinds that were ever heard of; what outputs are marked with (`stale_s`)."""
        return max((at - since for since, _ in self._since.values()), default=0.0)

    def forbids(self, act: str, at: Seconds) -> str:
        """Why an act is not done now; "" if it is."""
        for kind in RESTS_ON[act]:
            age = self.age(kind, at)
            if age == math.inf:
                return f"no {act}: {kind} have not been read yet"
            if age > self._budget[act]:
                why = self._since[kind][1]
                return f"no {act}: {kind} not heard of for {age:.0f} s, at most {self._budget[act]:g} s ({why})"
        return ""

    def paused(self, at: Seconds) -> dict[str, str]:
        """All acts that are not done now, and why."""
        return {act: why for act in RESTS_ON if (why := self.forbids(act, at))}
