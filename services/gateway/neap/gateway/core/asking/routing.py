"""Which API servers may serve a request: a table on verb, resource and priority; the first line that matches wins."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta

ANY: Final = "*"
Names = Annotated[tuple[str, ...], Meta(min_length=1, max_length=64)]


class Verb(StrEnum):
    """What is asked of the API."""

    LIST = "list"
    WATCH = "watch"
    GET = "get"
    CREATE = "create"
    REPLACE = "replace"
    PATCH = "patch"
    APPLY = "apply"
    DELETE = "delete"
    BIND = "bind"
    EVICT = "evict"

    @property
    def is_read(self) -> bool:
        """Whether it may be asked twice."""
        return self in (Verb.LIST, Verb.WATCH, Verb.GET)


class Priority(StrEnum):
    """Who goes first where not all can."""

    VITAL = "vital"  # leases: never behind other requests
    HIGH = "high"  # what pods wait for
    NORMAL = "normal"
    LOW = "low"  # what only people read


class Ask(NamedTuple):
    """One request."""

    verb: Verb
    resource: str  # as Kind says it: "pods", "leases.coordination.k8s.io"
    priority: Priority = Priority.NORMAL

    def __str__(self) -> str:
        return f"{self.verb} {self.resource} {self.priority}"


class Match(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which requests a line is for; "*" is any."""

    verb: str = ANY
    resource: str = ANY
    priority: str = ANY

    def fits(self, ask: Ask) -> bool:
        """Whether the line is for this request; a resource may leave out its group."""
        resource = self.resource in (ANY, ask.resource, ask.resource.partition(".")[0])
        return resource and self.verb in (ANY, ask.verb.value) and self.priority in (ANY, ask.priority.value)


class ApiRoute(Match, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Requests that only these endpoints serve."""

    endpoints: Names
    or_others: bool = False  # where none of them can, any other may


def route(routes: Sequence[ApiRoute], ask: Ask, names: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Who serves a request, and who does where none of those can. O(routes)."""
    line = next((line for line in routes if line.fits(ask)), None)
    if line is None:
        return tuple(names), ()
    mine = tuple(name for name in names if name in line.endpoints)
    return mine, tuple(name for name in names if name not in mine) if line.or_others else ()


def usual_priority(verb: Verb, resource: str) -> Priority:
    """Of a request whose caller says none."""
    match verb, resource.partition(".")[0]:
        case (_, "leases"):
            return Priority.VITAL
        case (Verb.BIND | Verb.EVICT, _) | (_, "pods"):
            return Priority.HIGH
        case (_, "events"):
            return Priority.LOW
    return Priority.NORMAL
