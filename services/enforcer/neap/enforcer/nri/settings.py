"""Settings of the runtime's door."""

from __future__ import annotations

from typing import Annotated

import msgspec

from neap.common.units import Seconds


class NriSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the runtime listens, and how long anything may take."""

    socket: str = "/var/run/nri/nri.sock"  # of the container runtime, root-equivalent; empty: this door stays shut
    name: str = "neap"  # among the runtime's plugins
    index: Annotated[str, msgspec.Meta(pattern="^[0-9]{2}$")] = "90"  # plugins are asked in this order
    answer_within: Annotated[Seconds, msgspec.Meta(gt=0)] = 0.04  # then a container starts as the runtime had it
    synchronize_within: Annotated[Seconds, msgspec.Meta(gt=0)] = 1.0  # runtimes give up after 2 s
    late_within: Annotated[Seconds, msgspec.Meta(gt=0)] = 30.0  # a late answer becomes an update; later it is dropped
    call_within: Annotated[Seconds, msgspec.Meta(gt=0)] = 10.0  # the runtime answers our own requests
    join_within: Annotated[Seconds, msgspec.Meta(gt=0)] = 30.0  # from connection to synchronisation
    first_retry: Annotated[Seconds, msgspec.Meta(gt=0)] = 0.1  # doubled with every attempt that fails
    last_retry: Annotated[Seconds, msgspec.Meta(gt=0)] = 10.0  # at most between two attempts
    questions: Annotated[int, msgspec.Meta(ge=1)] = 64  # `adjust` is asked at most so many at once
    batch: Annotated[int, msgspec.Meta(ge=1)] = 128  # updates in one request
