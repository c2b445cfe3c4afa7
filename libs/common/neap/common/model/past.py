"""What was used before neap came, and what the planner keeps of what it saw: both as plain messages."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

LONGEST = 10_000  # values of one message: a week of minutes


class PastUsage(msgspec.Struct, frozen=True, kw_only=True):
    """One line of somebody's record, read into the history as if it had been seen: values on a fixed step.

    Of a container of a service if `container` is named: use of one replica (or of each, one message per replica).
    Else of all replicas together; of a node, if `kind` is "Node" (namespace is CLUSTER_SCOPE then).
    """

    at: float  # when it was sent
    source: str
    namespace: str
    kind: str
    name: str
    resource: str  # "cpu" in cores, "memory" in bytes
    start: float  # of the first value, seconds since the epoch
    step: Annotated[float, Meta(gt=0)]
    values: Annotated[tuple[float | None, ...], Meta(max_length=LONGEST)]  # None: unknown
    container: str = ""
    replica: str = ""
    request: float | None = None  # what one replica asked for, where the record tells


class HistoryPage(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the planner's history, so that its next life goes on from there. Nobody else reads `what`."""

    at: float
    source: str
    page: str
    version: int  # of the layout; another one is not read, and that is said
    rows: int
    what: bytes
