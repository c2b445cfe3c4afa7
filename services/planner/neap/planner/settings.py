"""Settings of the planner. A desk's own are declared in its file; a group here makes them settable.

With a policy of a service, a pool or a node (`neap policy set planner ...`) they differ for it, see PER_SERVICE.
"""

from __future__ import annotations

from typing import Final

import msgspec

PER_SERVICE: Final[frozenset[str]] = frozenset()  # dotted keys that may differ for one service
FIXED: Final[frozenset[str]] = frozenset()  # the table of the room was made with them


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """A group per desk."""
