"""Sizes of containers: what differs from what is wanted, what a pod's kubelet made of it, and the note for pods to come.

    wanted      {container: {"requests": {kind: whole units}, "limits": {...}}}; kinds that are not named stay as they are
    note        annotation neap.io/size of the owner, as JSON: version, from (what the template says), to (what holds)

A pod that is made later gets `to` at admission, as long as it asks for what the note is `from`: whoever writes another
amount into the template has the last word, and the note is then without effect.
Source: Kubernetes documentation, "Resize CPU and Memory Resources assigned to Containers" (conditions PodResizePending
with reason Deferred or Infeasible, PodResizeInProgress; actual amounts in status.containerStatuses).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from neap.common.errors import InputError
from neap.common.kube.objects import Amounts, Metadata, Pod, PodContainer, ResourceAmounts
from neap.common.model.recommendation import Resize
from neap.common.model.resource import CPU, MEMORY, Resources, parse_amount

Size: TypeAlias = dict[str, Resources]  # "requests", "limits" -> amounts
Sizes: TypeAlias = dict[str, Size]  # by container

SIDES: Final = ("requests", "limits")
KINDS: Final = (CPU, MEMORY)
NOTE: Final = "neap.io/size"
LONGEST_NOTE: Final = 16_384  # characters
MOST_CONTAINERS: Final = 64
LONGEST_WHY: Final = 300


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """See module docstring."""

    version: str
    before: Sizes = msgspec.field(name="from")
    to: Sizes


class Fate(NamedTuple):
    """What became of a pod's new size; an empty outcome: nothing yet."""

    outcome: str
    detail: str = ""


def wanted(resize: Resize) -> Sizes:
    """What a command asks for.

    Raises:
        InputError: it asks for nothing, or for what cannot be resized.
    """
    found: Sizes = {}
    for side, amounts in (("requests", resize.requests), ("limits", resize.limits)):
        for name, kinds in amounts.items():
            if others := sorted(set(kinds) - set(KINDS)):
                raise InputError(f"{others[0]!r:.64} of {name:.64} cannot be resized, only {', '.join(KINDS)}")
            if kinds:
                found.setdefault(name, {})[side] = dict(kinds)
    if not found or len(found) > MOST_CONTAINERS:
        raise InputError(f"{len(found)} containers to resize, of 1..{MOST_CONTAINERS}")
    return found


def changes(containers: Sequence[PodContainer], to: Sizes) -> dict[str, dict[str, Any]]:
    """What is to be patched, by container; {}: all is as wanted.

    Raises:
        InputError: there is no such container.
    """
    has = {one.name: one.resources for one in containers}
    found: dict[str, dict[str, Any]] = {}
    for name, size in sorted(to.items()):
        if name not in has:
            raise InputError(f"there is no container {name!r:.64} (there are: {', '.join(has)[:200]})")
        different: dict[str, Any] = {}
        for side, amounts in sorted(size.items()):
            now = _read(_side(has[name], side))
            if left := {kind: spelled(kind, one) for kind, one in sorted(amounts.items()) if now.get(kind) != one}:
                different[side] = left
        if different:
            found[name] = {"resources": different}
    return found


def sizes_of(containers: Iterable[PodContainer], like: Sizes) -> Sizes:
    """What these containers ask for, of the kinds that `like` names; what is not asked for is left out."""
    found: Sizes = {}
    for one in containers:
        for side, amounts in like.get(one.name, {}).items():
            now = _read(_side(one.resources, side))
            found.setdefault(one.name, {})[side] = {kind: now[kind] for kind in amounts if kind in now}
    return found


def fate(pod: Pod, to: Sizes) -> Fate:
    """What a pod whose wish is as wanted has come to, by what its kubelet says."""
    conditions = {one.type: one for one in pod.status.conditions or () if one.status == "True"}
    pending, moving = conditions.get("PodResizePending"), conditions.get("PodResizeInProgress")
    if pending is not None:
        outcome = "infeasible" if pending.reason == "Infeasible" else "deferred"
        return Fate(outcome, (pending.message or pending.reason)[:LONGEST_WHY])
    if moving is not None:
        return Fate("deferred", moving.message[:LONGEST_WHY]) if moving.reason == "Error" else Fate("")
    shown = {one.name: one.resources for one in pod.status.container_statuses or ()}
    for name, size in to.items():
        for side, amounts in size.items():
            now = _read(_side(shown.get(name) or ResourceAmounts(), side))
            if any(now.get(kind) != amount for kind, amount in amounts.items()):
                return Fate("")
    return Fate("done")


def noted(meta: Metadata) -> Note | None:
    """What an owner's annotation says; None: nothing that can be read."""
    text = (meta.annotations or {}).get(NOTE, "")
    if not text or len(text) > LONGEST_NOTE:
        return None
    try:
        note = msgspec.json.decode(text, type=Note)
    except (msgspec.MsgspecError, UnicodeError):
        return None
    holds = all(side in SIDES and set(amounts) <= set(KINDS) and all(0 <= one < 1 << 53 for one in amounts.values())
                for sizes in (note.before, note.to) for size in sizes.values() for side, amounts in size.items())  # fmt: skip
    return note if holds else None


def note_for(containers: Sequence[PodContainer], to: Sizes, version: str) -> str | None:
    """The annotation that an owner with these containers should have; None: none, its template says so itself."""
    before = sizes_of(containers, to)
    named = {one.name for one in containers}
    mine = {name: size for name, size in to.items() if name in named}
    if not mine or before == mine:
        return None
    text = msgspec.json.encode(Note(version=version, before=before, to=mine), order="sorted").decode()
    return text if len(text) <= LONGEST_NOTE else None


def sized(container: Mapping[str, Any], note: Note) -> dict[str, Any] | None:
    """The resources of a new pod's container by a note; None: they stay as they are, as where a limit is in the way."""
    name = str(container.get("name", ""))
    to, before = note.to.get(name), note.before.get(name, {})
    resources: dict[str, Any] = dict(container.get("resources") or {})
    if to is None:
        return None
    for side, amounts in to.items():
        now = _read(resources.get(side))
        if {kind: now[kind] for kind in amounts if kind in now} != before.get(side, {}):
            return None  # somebody wrote another amount since
        resources[side] = {**(resources.get(side) or {}), **{kind: spelled(kind, one) for kind, one in amounts.items()}}
    requests, limits = _read(resources.get("requests")), _read(resources.get("limits"))
    return None if any(requests.get(kind, 0) > most for kind, most in limits.items()) else resources


def spelled(kind: str, amount: int) -> str:
    """Whole units as Kubernetes writes them."""
    return f"{amount}m" if kind == CPU and amount % 1000 else str(amount // 1000 if kind == CPU else amount)


def _side(resources: ResourceAmounts, side: str) -> Amounts | None:
    return resources.requests if side == "requests" else resources.limits


def _read(amounts: Amounts | None) -> Resources:
    """Of what can be resized; an amount that cannot be read is none that is wanted."""
    found: Resources = {}
    for kind in KINDS:
        if amounts and kind in amounts:
            try:
                found[kind] = parse_amount(kind, str(amounts[kind]))[1]
            except InputError:
                found[kind] = -1
    return found
