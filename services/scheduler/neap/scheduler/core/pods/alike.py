"""What replicas have in common: a workload without uid and name, as bytes; what follows from it is worked out once."""

from __future__ import annotations

from typing import Final

import msgspec

from neap.common.model.workload import Workload
from neap.common.units import KIB, Bytes

REMEMBERED: Final = 4096  # kinds of workloads for which something is remembered
LONGEST: Final[Bytes] = 16 * KIB  # of a workload that is remembered


def common(workload: Workload) -> bytes | None:
    """None where nothing should be remembered: too long, or nothing that a wire could bring."""
    try:
        alike = msgspec.json.encode(msgspec.structs.replace(workload, uid="", name=""))
    except (msgspec.MsgspecError, OverflowError, UnicodeError):
        return None
    return alike if len(alike) <= LONGEST else None


def one_of(alike: bytes) -> Workload:
    """One of those that have this in common, without uid and name."""
    return msgspec.json.decode(alike, type=Workload)
