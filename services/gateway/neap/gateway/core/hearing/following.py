"""What happens to a reflector (core/hearing/reflector.py), and what it asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from neap.common.errors import PortError
from neap.common.kube.port import Page, Watched
from neap.common.units import Seconds

# -- what happened ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Begun:
    """The first event."""


@dataclass(frozen=True, slots=True)
class PageRead:
    """A page of the list."""

    page: Page[Any]


@dataclass(frozen=True, slots=True)
class Opened:
    """The server answered the watch."""


@dataclass(frozen=True, slots=True)
class ChangeHeard:
    """A line of the watch."""

    line: Watched[Any]


@dataclass(frozen=True, slots=True)
class Ended:
    """The watch is over, without an error."""


@dataclass(frozen=True, slots=True)
class Broke:
    """The list or the watch failed."""

    error: PortError


@dataclass(frozen=True, slots=True)
class Passed:
    """The time waited for is here, and nothing else happened."""


What: TypeAlias = Begun | PageRead | Opened | ChangeHeard | Ended | Broke | Passed

# -- what to do -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Say:
    """Tell it: one of Seen, Removed, Complete, Stale (core/hearing/reflector.py)."""

    what: Any


@dataclass(frozen=True, slots=True)
class ListPage:
    """Read a page: the first one, or the one `token` leads to."""

    limit: int
    token: str = ""


@dataclass(frozen=True, slots=True)
class OpenWatch:
    """Hear what happened after `version`."""

    version: str
    within: Seconds


@dataclass(frozen=True, slots=True)
class Listen:
    """The next line of the open watch, or Passed at `until`."""

    until: Seconds


@dataclass(frozen=True, slots=True)
class Wait:
    """Passed at `until`."""

    until: Seconds


Next: TypeAlias = ListPage | OpenWatch | Listen | Wait
Order: TypeAlias = Say | Next
