"""Lines of a pod's story, as the virtual nodes tell it."""

from __future__ import annotations

from typing import Final

from neap.common.model.lifecycle import EndReason, Measured
from neap.common.model.trail import ObjectRef, TrailEntry
from neap.common.model.workload import Workload
from neap.common.telemetry.span import object_context
from neap.common.units import Seconds

RETURNS: Final = (EndReason.EVICTED, EndReason.REFUSED)  # with these a workload goes back to the queue


def line(
    at: Seconds, workload: Workload, what: str, why: str, *, node: str = "", numbers: tuple[Measured, ...] = ()
) -> TrailEntry:
    """One act about this attempt of a workload; the same act has the same id, however often it is told."""
    about = ObjectRef(namespace=workload.namespace, name=workload.name, uid=workload.uid)
    return TrailEntry(
        at=at,
        source="virtual",
        id=f"{workload.uid}.{workload.attempt}.{what}",
        about=about,
        what=what,
        why=why,
        numbers=numbers,
        node=node,
        trace=object_context(about).trace,
        parent=workload.owner,
    )
