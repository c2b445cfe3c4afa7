"""What the scheduler says about a workload: sentences with the numbers in them, and the messages that carry them."""

from __future__ import annotations

from typing import Final, Protocol

from neap.common.contract.catalogue import WORKLOAD
from neap.common.contract.channel import Address
from neap.common.errors import InputError, WireError
from neap.common.model.explanation import NodeClassVerdict
from neap.common.model.lifecycle import Ended, EndReason, LifecycleEvent, Measured, Submitted
from neap.common.model.placement import Placed, Placement
from neap.common.model.trail import ObjectRef, TrailEntry
from neap.common.model.workload import Workload
from neap.common.runtime.machine import Decide, Emit
from neap.common.telemetry.span import object_context
from neap.common.units import Seconds, format_duration
from neap.scheduler.core.choice.cycle import Decision
from neap.scheduler.core.flow.appends import Op
from neap.scheduler.core.flow.book import Record
from neap.scheduler.core.flow.ledger import Held
from neap.scheduler.core.nodes.change import NodeChanged
from neap.scheduler.core.nodes.columns import code
from neap.scheduler.core.pods.admission import PLAIN

ADOPTED: Final = "it runs here already: somebody else placed it"
RESIZED: Final = "resized in place: "
SOURCE: Final = "scheduler"
MOST_REASONS: Final = 8  # in one sentence


def placed_why(decision: Decision) -> str:
    """Why this node: its score by plugin, who came second, how many stood for election, who was out, what it gets."""
    scores = ", ".join(f"{name} {score:.1f}" for name, score in decision.parts) or "no plugin scores it"
    sentence = f"{decision.node}: score {decision.score:.1f} ({scores}), best of {decision.feasible} nodes that fit"
    if decision.rejected:
        out = decision.nodes - decision.feasible
        sentence += f"; {out} of {decision.nodes} rejected: {_classes(decision)}"
    if decision.runner_up:
        level = f"level with {decision.runner_up}, before it in the run's order"
        sentence += f"; {decision.margin:.1f} ahead of {decision.runner_up}" if decision.margin else f"; {level}"
    return "; ".join((sentence, *decision.why))


class Rejected(Protocol):
    """A decision or a verdict that found no node."""

    @property
    def nodes(self) -> int:
        """Known."""

    @property
    def rejected(self) -> tuple[NodeClassVerdict, ...]:
        """By reason."""

    @property
    def wakes(self) -> frozenset[NodeChanged]:
        """What would change it."""


def waiting_why(decision: Rejected) -> str:
    """Why no node, by reason, and what would change it."""
    wakes = ", ".join(sorted(decision.wakes))
    if not decision.nodes:
        return f"no node is known yet; wakes on {wakes}"
    return f"none of {decision.nodes} nodes takes it: {_classes(decision)}; wakes on {wakes}"


def _classes(decision: Rejected) -> str:
    said = [f"{verdict.nodes} {verdict.plugin} {verdict.reason}{_one(verdict)}" for verdict in decision.rejected]
    return ", ".join(said[:MOST_REASONS] + ["and more"] * (len(said) > MOST_REASONS))


def _one(verdict: NodeClassVerdict) -> str:
    """The nearest miss if somebody asked for it, else an example."""
    if verdict.nearest:
        return f" (nearest: {verdict.nearest})"
    return f" (as {verdict.example})" if verdict.example else ""


def placed(op: Op) -> Decide:
    """A placement is stored: told as of the moment it was made, because others act on it before its answer is here."""
    decision, entry = op.decision, op.entry
    assert isinstance(entry, Placed)
    if op.again:
        return _charged(entry.placement.workload, op.node, entry.reason, entry.at)
    if decision is None:
        return _line(entry.placement.workload, "adopted", entry.reason, entry.at, node=op.node)
    numbers = tuple(Measured(metric=f"score.{name}", value=score, threshold=100.0) for name, score in decision.parts)
    return _line(decision.pod.workload, "placed", entry.reason, entry.at, node=op.node, numbers=numbers)


def placed_again(node: str, held: Held) -> Decide:
    """The line of a stored placement, for a scheduler that ended before it could be told; the same id as the first."""
    if RESIZED in held.reason:
        return _charged(held.placement.workload, node, held.reason, held.at)
    what = "adopted" if held.reason == ADOPTED else "placed"
    return _line(held.placement.workload, what, held.reason, held.at, node=node)


def resized_why(reason: str, before: Placement, after: Placement) -> str:
    """Why it is here, and what it is charged from now on."""
    kinds = sorted(kind for kind in {**before.charged, **after.charged} if _of(before, kind) != _of(after, kind))
    said = ", ".join(f"{kind} {_of(before, kind)} -> {_of(after, kind)}" for kind in kinds) or "charged as before"
    first = reason.partition(RESIZED)[0].removesuffix("; ")
    return f"{first}{'; ' * bool(first)}{RESIZED}{said}"


def _of(placement: Placement, kind: str) -> int:
    return placement.charged.get(kind, 0)


def _charged(workload: Workload, node: str, reason: str, at: Seconds) -> Decide:
    """It is charged its new size."""
    why = reason[reason.index(RESIZED) :]
    return _line(workload, "charged", why, at, node=node, id=f"charged.{at:.6f}")


def waiting(workload: Workload, decision: Decision, at: Seconds) -> Decide:
    """No node fits now."""
    return _line(workload, "waiting", "; ".join((*decision.why, waiting_why(decision))), at)


def gathering(workload: Workload, why: str, at: Seconds) -> Decide:
    """It waits for the other members of its gang."""
    return _line(workload, "gathering", why, at)


def preempting(workload: Workload, node: str, why: str, at: Seconds, number: int, what: str = "nominated") -> Decide:
    """A place was nominated, and whoever holds it asked to leave; or that came to nothing."""
    return _line(workload, what if number == 1 else f"{what}.{number}", why, at, node=node)


def requeued(workload: Workload, ended: Ended, at: Seconds, ready_at: Seconds) -> Decide:
    """A run is over that was not meant to be."""
    on = f" on {ended.node}" if ended.node else ""
    detail = f" ({ended.detail})" if ended.detail else ""
    wait = format_duration(max(0.0, ready_at - at))
    why = f"attempt {ended.attempt} was {ended.reason}{on}{detail}; back in the queue as attempt {workload.attempt}, not before {wait} have passed"
    return _line(workload, "requeued", why, at, node=ended.node)


def refused(record: Record, workload: Workload, reason: str, at: Seconds) -> list[Emit | Decide]:
    """It can never run; nothing to say where no subject can carry its name."""
    try:
        address = Address(WORKLOAD, record.subject) if record.subject else _address(workload)
        names = WORKLOAD.tokens_of(address.subject)
    except (InputError, WireError):
        return []
    ended = Ended(
        at=at,
        source=SOURCE,
        uid=workload.uid,
        node="",
        attempt=workload.attempt,
        reason=EndReason.INVALID,
        detail=reason,
    )
    return [Emit(address, ended, f"{_id(workload, 'invalid')}"), _line(workload, "refused", reason, at, names=names)]


def resubmitted(workload: Workload, at: Seconds) -> Emit:
    """An evicted or refused workload returns to the queue."""
    event: LifecycleEvent = Submitted(at=at, source=SOURCE, workload=workload)
    return Emit(_address(workload), event, _id(workload, "submitted"))


def refused_by_device(workload: Workload, node: str, reason: str, at: Seconds) -> Emit:
    """The node's devices would not take it: this attempt is over."""
    return given_back(workload, node, reason, at, "device-refused")


def given_back(workload: Workload, node: str, why: str, at: Seconds, what: str) -> Emit:
    """This attempt is over because the place is given back: it is released, and the workload returns to the queue."""
    event: LifecycleEvent = Ended(
        at=at,
        source=SOURCE,
        uid=workload.uid,
        node=node,
        attempt=workload.attempt,
        reason=EndReason.REFUSED,
        detail=why,
    )
    return Emit(_address(workload), event, _id(workload, what))


def _address(workload: Workload) -> Address[LifecycleEvent]:
    return WORKLOAD.at(namespace=workload.namespace, name=workload.name)


def _id(workload: Workload, what: str) -> str:
    uid = workload.uid if PLAIN.fullmatch(workload.uid) else str(code(workload.uid))
    return f"{uid}.{workload.attempt}.{what}"


def _line(
    workload: Workload,
    what: str,
    why: str,
    at: Seconds,
    *,
    node: str = "",
    numbers: tuple[Measured, ...] = (),
    names: dict[str, str] | None = None,
    id: str = "",
) -> Decide:
    names = names or {"namespace": workload.namespace, "name": workload.name}
    about = ObjectRef(namespace=names["namespace"], name=names["name"], uid=workload.uid)
    entry = TrailEntry(
        at=at,
        source=SOURCE,
        id=_id(workload, id or what),
        about=about,
        what=what,
        why=why,
        numbers=numbers,
        node=node,
        trace=object_context(about).trace,
        parent=workload.owner,
    )
    return Decide(entry)
