"""What the sizing desk keeps of a service: what it told of it last, packed, for 100,000 of them are seldom looked at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

import msgspec

from neap.common.model.recommendation import Recommendation
from neap.common.units import Seconds
from neap.foresight.rule import Memory
from neap.planner.core import lean

Remembered: TypeAlias = list[tuple[str, str, Memory]]  # container, resource, what the rule remembers
_PACKING: Final = lean.Packing(Recommendation)
_REMEMBERED: Final = msgspec.msgpack.Decoder(Remembered)


@dataclass(slots=True)
class Kept:
    """See module docstring. 0.8 KB instead of 3."""

    state: str = ""  # of the change under way, as told
    due: Seconds = 0.0
    _told: bytes = b""
    _memories: bytes = b""

    @property
    def told(self) -> Recommendation | None:
        """What was told last."""
        return _PACKING.unpacked(self._told) if self._told else None

    @told.setter
    def told(self, now: Recommendation) -> None:
        self.state, self._told = now.state, _PACKING.packed(now)

    def remember(self, memories: Iterable[tuple[str, str, Memory]]) -> None:
        """What the rules remember from now on."""
        self._memories = msgspec.msgpack.encode(list(memories))

    def memory(self, container: str, resource: str) -> Memory:
        """What the rule remembers of it: since this life sized it, or else as it was told."""
        for name, kind, memory in _REMEMBERED.decode(self._memories) if self._memories else ():
            if (name, kind) == (container, resource):
                return memory
        told = self.told
        sums = (each for size in told.containers if size.name == container for each in size.requests) if told else ()
        return next((each.memory for each in sums if each.resource == resource), ())
