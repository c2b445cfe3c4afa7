"""Which services are not to be placed together, because one was seen to slow the other down on some node."""

from __future__ import annotations

from typing import Final

import msgspec

MOST_PAIRS: Final = 32  # one node names


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """An owner's service and the guest's that disturbed it; families as in neap.common.model.protection."""

    owner: str
    guest: str
    until: float
    why: str  # with the numbers


class Apart(msgspec.Struct, frozen=True, kw_only=True):
    """What one node's advisor found; replaces what it said before. A pair ends at its `until`."""

    at: float
    source: str
    node: str
    pairs: tuple[Pair, ...] = ()
