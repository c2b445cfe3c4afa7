"""What a room of a node keeps of itself from one life to the next."""

from __future__ import annotations

from typing import Any

import msgspec


class RoomMemory(msgspec.Struct, frozen=True, kw_only=True):
    """Windows, timers, integrals: what a room learnt and nobody says again.

    Nobody but the room itself reads `what`, which may look different in every version of it: what the next life does
    not understand it does without, and says so.
    """

    at: float
    source: str
    node: str
    room: str
    what: dict[str, Any]
