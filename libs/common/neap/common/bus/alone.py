"""How long a node goes on by itself while its bus is away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import msgspec

from neap.common.units import Seconds

Span = Annotated[Seconds, msgspec.Meta(ge=0)]


class Alone(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent does while NATS is away."""

    start: Span = 10.0  # after which a process that finds no NATS takes its own channels as read
    most: Span = 600.0  # of going on with the placements last seen; then advice is renewed no more, and lapses
    work: Span = 30.0  # age at which a command that could not be sent is dropped: what it saw is no longer so
    kept: Annotated[int, msgspec.Meta(ge=1)] = 4096  # events that wait for NATS; beyond, the oldest are dropped


class Solitude:
    """Since when nobody has been there, told by whoever looks; clock seconds."""

    def __init__(self, now: Callable[[], Seconds], most: Seconds) -> None:
        self._now, self._most = now, most
        self._since: Seconds | None = now()

    def look(self, *, connected: bool) -> None:
        """What is seen now."""
        if connected:
            self._since = None
        elif self._since is None:
            self._since = self._now()

    @property
    def is_alone(self) -> bool:
        """Whether nobody was there when somebody looked last."""
        return self._since is not None

    @property
    def lasts(self) -> Seconds:
        """How long it has lasted; 0 while somebody is there."""
        return 0.0 if self._since is None else max(0.0, self._now() - self._since)

    @property
    def is_too_long(self) -> bool:
        """Whether what was last heard from elsewhere is too old to go on with."""
        return self._since is not None and self.lasts > self._most
