"""One line of an object's story: what, when, why, with which numbers, by whom."""

from __future__ import annotations

import msgspec

from neap.common.model.lifecycle import Eviction, Measured


class ObjectRef(msgspec.Struct, frozen=True, kw_only=True):
    """The object a line is about."""

    namespace: str
    name: str
    uid: str
    kind: str = "Pod"


class TrailEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One act. `id` is unique per act, so a repeated delivery adds no second line."""

    at: float
    source: str
    id: str
    about: ObjectRef
    what: str  # "placed", "evicted": past tense, one word where one will do
    why: str  # a sentence with the numbers in it
    numbers: tuple[Measured, ...] = ()
    node: str = ""
    trace: str = ""  # hex trace id of the object
    cause: str = ""  # id of the entry or message that led to this one
    parent: str = ""  # owner, "Deployment/feed", for --tree
    eviction: Eviction | None = None  # the command behind "chosen for eviction": ranking, what was tried, budgets
