"""What the sizing desk tells: which of the new sums replace those in force, and lines for the trail."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import msgspec
from msgspec.structs import replace

from neap.common.model.lifecycle import Measured
from neap.common.model.recommendation import ContainerSize, Recommendation, Resize, Sum
from neap.common.model.trail import TrailEntry
from neap.common.telemetry.span import object_context
from neap.common.units import Ratio, Seconds
from neap.foresight.sizing import differs
from neap.planner.core.desk import SOURCE
from neap.planner.core.keys import object_of


def merged(before: Recommendation | None, sizes: Sequence[ContainerSize], share: Ratio) -> tuple[ContainerSize, ...]:
    """The new sizes, but each target in force stays until another differs from it by more than `share`."""
    old = {} if before is None else {size.name: size for size in before.containers}
    return tuple(_container(old.get(size.name), size, share) for size in sizes)


def _container(old: ContainerSize | None, new: ContainerSize, share: Ratio) -> ContainerSize:
    if old is None:
        return new
    requests = tuple(_sum(old.requests, each, share, pressed=bool(new.oom_kills)) for each in new.requests)
    kept = {each.resource for each, fresh in zip(requests, new.requests, strict=True) if each.target != fresh.target}
    limits = tuple(_limit(old.limits, each) if each.resource in kept else each for each in new.limits)
    return replace(new, requests=requests, limits=limits)


def _sum(old: Sequence[Sum], new: Sum, share: Ratio, *, pressed: bool) -> Sum:
    stood = next((each for each in old if each.resource == new.resource), None)
    must = bool(new.bound) or (pressed and stood is not None and new.target > stood.target)
    if stood is None or must or differs(stood.target, new.target, share):
        return new
    return replace(
        new, target=stood.target, arithmetic=stood.arithmetic if new.target != stood.target else new.arithmetic
    )


def _limit(old: Sequence[Sum], new: Sum) -> Sum:
    return next((replace(each, now=new.now) for each in old if each.resource == new.resource), new)


def is_news(before: Recommendation | None, now: Recommendation, at: Seconds, refresh: Seconds) -> bool:
    """Whether it is worth telling: another target, another request, another reason to wait, or a long time ago."""
    if before is None:
        return True
    same = _targets(before) == _targets(now) and before.waits.partition(":")[0] == now.waits.partition(":")[0]
    return not same or at - before.at >= refresh


def _targets(told: Recommendation) -> list[tuple[str, str, int | None, int]]:
    return [
        (size.name, each.resource, each.now, each.target)
        for size in told.containers
        for each in (*size.requests, *size.limits)
    ]


def version_of(sizes: Sequence[ContainerSize], at: Seconds) -> str:
    """Names these targets, told at this time."""
    targets = [(size.name, each.resource, each.target) for size in sizes for each in (*size.requests, *size.limits)]
    return sha256(msgspec.json.encode((targets, round(at)))).hexdigest()[:10]


def line(
    told: Recommendation, what: str, at: Seconds, *, numbers: tuple[Measured, ...] = (), id_: str = ""
) -> TrailEntry:
    """One act about a service, in its trail."""
    about = object_of(told)
    version = told.applying.version if told.applying else told.version
    return TrailEntry(
        at=at,
        source=SOURCE,
        id=f"{about.uid}.{version}.{id_ or what.replace(' ', '-')}",
        about=about,
        what=what,
        why=told.why,
        numbers=numbers,
        trace=object_context(about).trace,
        cause=version,
        parent=f"{told.kind}/{told.name}",
    )


def dedupe_id(resize: Resize) -> str:
    """A Resize is done once, however often it is emitted."""
    return f"{resize.namespace}.{resize.kind}.{resize.name}.{resize.version}"
