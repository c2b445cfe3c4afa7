"""What both adapters count, and how poison is logged without flooding the log."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any, Final

from neap.common.contract.channel import Channel, Endpoint
from neap.common.errors import WireError
from neap.common.units import MINUTE, Seconds

LOG: Final = logging.getLogger("neap.bus")
SUBJECTS_REMEMBERED: Final = 4096


@dataclass
class Health:
    """See `port.BusHealth`. `unsent` counts LATEST messages dropped because the connection was away."""

    connected: bool = False
    reconnects: int = 0
    lost: int = 0
    poison: dict[str, int] = field(default_factory=dict)
    denied: int = 0
    unsent: int = 0
    _logged: dict[str, Seconds] = field(default_factory=dict, repr=False)

    def poisoned(
        self, channel: Channel[Any] | Endpoint[Any, Any], subject: str, error: WireError, now: Seconds
    ) -> None:
        """Count an undecodable message; log it at most once per subject and minute."""
        name, subject = channel.title(), channel.title(subject)
        self.poison[name] = self.poison.get(name, 0) + 1
        if now - self._logged.get(subject, -MINUTE) < MINUTE:
            return
        if len(self._logged) >= SUBJECTS_REMEMBERED:
            self._logged.clear()
        self._logged[subject] = now
        LOG.warning("bus.poison: %s", error)
