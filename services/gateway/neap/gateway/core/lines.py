"""What the gateway says on the bus about a pod: messages of its life, and lines of its trail."""

from __future__ import annotations

from typing import Final

from neap.common.contract.catalogue import WORKLOAD
from neap.common.model.explanation import Explanation
from neap.common.model.lifecycle import Ended, Eviction, LifecycleEvent, Measured, Started, Submitted
from neap.common.model.trail import ObjectRef, TrailEntry
from neap.common.runtime.machine import Decide, Emit
from neap.common.telemetry.span import object_context
from neap.common.units import Seconds
from neap.gateway.core.pods.book import SOURCE

LONGEST_DETAIL: Final = 400
MOST_REASONS: Final = 8  # in one sentence


def about(namespace: str, name: str, uid: str) -> ObjectRef:
    """A pod."""
    return ObjectRef(namespace=namespace, name=name, uid=uid)


def service(namespace: str, kind: str, name: str) -> ObjectRef:
    """All pods of an owner, as the planner speaks of them."""
    return ObjectRef(namespace=namespace, name=name, uid=f"{namespace}/{kind}/{name}", kind=kind)


def told(event: LifecycleEvent, namespace: str, name: str) -> Emit:
    """One message of a pod's life, under an id that is the same however often it is said."""
    match event:
        case Submitted(workload=workload, node=node):
            id = f"{workload.uid}.{workload.attempt}.{'adopted' if node else 'submitted'}"
        case Started(uid=uid, attempt=attempt, size=size) if size is not None:
            id = f"{uid}.{attempt}.sized.{event.at:.6f}"
        case Started(uid=uid, attempt=attempt):
            id = f"{uid}.{attempt}.started"
        case Ended(uid=uid, attempt=attempt):
            id = f"{uid}.{attempt}.ended"
    return Emit(WORKLOAD.at(namespace=namespace, name=name), event, id)


def line(
    pod: ObjectRef,
    at: Seconds,
    what: str,
    why: str,
    *,
    id: str,
    node: str = "",
    parent: str = "",
    root: bool = False,
    numbers: tuple[Measured, ...] = (),
    cause: str = "",
    eviction: Eviction | None = None,
) -> Decide:
    """One act about a pod."""
    entry = TrailEntry(
        at=at,
        source=SOURCE,
        id=f"{pod.uid}.{id}",
        about=pod,
        what=what,
        why=why,
        numbers=numbers,
        node=node,
        trace=object_context(pod).trace,
        parent=parent,
        cause=cause,
        eviction=eviction,
    )
    return Decide(entry, root=root)


def waiting_why(told: Explanation) -> str:
    """The scheduler's reasons in one sentence."""
    out = [
        f"{one.nodes} {one.plugin} {one.reason}" + (f" (nearest: {one.nearest})" if one.nearest else "")
        for one in told.rejected[:MOST_REASONS]
    ]
    said = [f"0 of {told.nodes} nodes take it: {', '.join(out)}" if out else told.reason or "it waits for its turn"]
    if told.remedies:
        said.append(f"would help: {told.remedies[0].says}")
    elif told.closest:
        said.append(f"closest: {told.closest}")
    if told.wakes_on:
        said.append(f"wakes on {', '.join(told.wakes_on)}")
    return "; ".join(said)
