"""What is recommended, as people read it: a table of all services, one with its arithmetic, JSON. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from neap.common.errors import InputError
from neap.common.model.recommendation import ContainerSize, Recommendation, ResizeHow, Sum
from neap.common.model.resource import CPU, MEMORY, Resources
from neap.common.units import format_bytes
from neap.console.core.columns import columns
from neap.foresight.rule import spoken
from neap.foresight.sizing import shown

SHORT: Final = {
    "deploy": "Deployment", "deployment": "Deployment", "sts": "StatefulSet", "statefulset": "StatefulSet",
    "ds": "DaemonSet", "daemonset": "DaemonSet", "job": "Job",
}  # fmt: skip
WRITE: Final = "write deploy/NAME, sts/NAME, ds/NAME, job/NAME (and -n NAMESPACE), or NAMESPACE/KIND/NAME"


def target_of(name: str, namespace: str) -> tuple[str, str, str]:
    """What people write -> namespace, kind and name.

    Raises:
        InputError: says how it is written.
    """
    parts = name.split("/")
    if len(parts) == 2:
        parts = [namespace, *parts]
    if len(parts) != 3 or not all(parts):
        raise InputError(f"{name!r}: {WRITE}")
    kind = SHORT.get(parts[1].lower(), parts[1])
    if kind not in SHORT.values():
        raise InputError(f"{name!r}: no kind {parts[1]!r}; {WRITE}")
    return parts[0], kind, parts[2]


def table(told: Sequence[Recommendation]) -> str:
    """All services, those that save most first, and what all of them save."""
    if not told:
        return "no recommendations yet: the planner tells them once it has seen a service (a day of it for a target)"
    rows: list[tuple[str, ...]] = [
        ("service", "replicas", "cpu now -> target", "memory now -> target", "saves cpu", "memory", "state")
    ]
    rows += [_row(one) for one in sorted(told, key=lambda each: (-each.saves.get(CPU, 0), each.namespace, each.name))]
    total: Resources = {kind: sum(one.saves.get(kind, 0) for one in told) for kind in (CPU, MEMORY)}
    waiting = sum(bool(one.waits) for one in told)
    foot = f"{len(told)} services, {waiting} of them not known for long enough; together {_together(total)}"
    return "\n".join([*columns(rows), "", foot])


def _row(one: Recommendation) -> tuple[str, ...]:
    name, state = f"{one.namespace}/{one.kind}/{one.name}", one.waits or one.state
    changes, savings = (_change(one, CPU), _change(one, MEMORY)), (_saving(one.saves, CPU), _saving(one.saves, MEMORY))
    return (name, str(one.replicas), *changes, *savings, state)


def text(one: Recommendation) -> str:
    """One service with its arithmetic."""
    lines = [f"{one.namespace}/{one.kind}/{one.name}   {one.replicas} replicas"]
    if one.waits:
        lines.append(f"no target yet: {one.waits}")
    for size in one.containers:
        lines += _container(size, spoken(one.window))
    if one.containers:
        how = f"{ResizeHow.IN_PLACE} where the cluster can, else {ResizeHow.RECREATE}"
        lines.append(f"{_together(one.saves)} over {one.replicas} replicas; apply: {how} (--apply)")
    if one.state:
        lines.append(f"{one.state}: {one.why}")
    return "\n".join(lines)


def as_json(told: Sequence[Recommendation]) -> list[dict[str, Any]]:
    """The same for scripts: the messages as they stand."""
    return [msgspec.to_builtins(one) for one in told]


def summary(one: Sum, window: str) -> str:
    """Request 8 -> 2.9 cores (2.4 (p95, half-life 24 h) x 1.2, 14 d; confidence 93 %)."""
    now = "nothing" if one.now is None else shown(one.resource, one.now)
    reason = one.arithmetic.partition(" = ")[2] if not one.bound else one.arithmetic.partition(": ")[2]
    return f"{now} -> {shown(one.resource, one.target)} ({reason}; {window}, confidence {one.confidence:.0%})"


def _container(size: ContainerSize, window: str) -> list[str]:
    lines = [f"  {size.name}"]
    lines += [f"    request {each.resource:<7} {summary(each, window)}" for each in size.requests]
    lines += [f"    limit   {each.resource:<7} {summary(each, window)}" for each in size.limits]
    if size.startup:
        peaks = ", ".join(f"{shown(name, amount)} {name}".removesuffix(" cpu") for name, amount in size.startup.items())
        lines.append(f"    start-up peak {peaks}: kept apart, it lifts no request")
    if size.oom_kills:
        lines.append(f"    {size.oom_kills} OOM kills within 7 d, worst replica {size.worst_replica}")
    return lines


def _change(one: Recommendation, resource: str) -> str:
    sums = [each for size in one.containers for each in size.requests if each.resource == resource]
    if not sums:
        return "-"
    now = sum(each.now or 0 for each in sums)
    target = sum(each.target for each in sums)
    return f"{shown(resource, now) if any(each.now for each in sums) else 'nothing'} -> {shown(resource, target)}"


def _saving(saves: Resources, resource: str) -> str:
    amount = saves.get(resource)
    if amount is None:
        return "-"
    return f"{amount / 1000:.4g}" if resource == CPU else format_bytes(amount)


def _together(saves: Resources) -> str:
    parts = []
    for word, kept in (
        ("saves", {kind: amount for kind, amount in saves.items() if amount > 0}),
        ("costs", {kind: -amount for kind, amount in saves.items() if amount < 0}),
    ):
        said = [f"{n / 1000:.4g} cores" if kind == CPU else f"{format_bytes(n)} {kind}" for kind, n in kept.items()]
        parts += [f"{word} {' and '.join(said)}"] if said else []
    return ", ".join(parts) or "saves nothing"
