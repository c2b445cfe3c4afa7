"""Live policy: documents that change settings of a room, and which of them hold for one target at one time.

    cluster < pool (of nodes) < node < service (a workload's pods)         the narrower tier wins, key by key;
                                                                           of one tier the edition said later

A document has editions, newest first. The first one that holds is the standing one: an edition with an unknown key
or a value out of bounds is refused, and the one before it stays, so nobody's mistake takes away what was there.
Whether it is in force for a target is then asked of the standing edition alone:

    scope     it names the target's cluster, pool, node or service
    canary    share(name, node) < canary, where share is a stable hash in [0, 1): 10 % lies inside 50 %
    time      begins <= at < expires, and inside the daily window

Where it is not, the document is as if absent. Editions that each hold but not together: the later in the order above
stays out. Nothing here depends on the order in which documents were heard.
Source: katalyst-core pkg/config/agent/dynamic and KCC targets (idea: tiers, canary, last good value kept).
"""

from __future__ import annotations

import hashlib
import heapq
import math
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Any, Final, TypeAlias

import msgspec
from msgspec import Meta

from neap.common.errors import InputError, SettingsError
from neap.common.model.window import Window
from neap.common.units import Ratio, Seconds

MOST_EDITIONS: Final = 10
MOST_KEYS: Final = 64  # in one document
MOST_DOCUMENTS: Final = 256  # of one room; more are refused
POOL_LABEL: Final = "neap.io/pool"  # label of a node that names its pool

NAME: Final = r"^[a-z0-9]([a-z0-9.-]{0,62}[a-z0-9])?$"
Name: TypeAlias = Annotated[str, Meta(pattern=NAME)]
Text: TypeAlias = Annotated[str, Meta(max_length=512)]


class Tier(StrEnum):
    """How much of the cluster an edition is for, widest first."""

    CLUSTER = "cluster"
    POOL = "pool"
    NODE = "node"
    SERVICE = "service"


TIERS: Final = tuple(Tier)


class Edition(msgspec.Struct, frozen=True, kw_only=True):
    """What a document said at one time. `selector`: the pool, the node, or namespace/owner; none for the cluster."""

    version: Annotated[int, Meta(ge=1)]
    at: float  # when it was said
    author: Text = ""
    reason: Text = ""
    tier: Tier = Tier.CLUSTER
    selector: Annotated[str, Meta(max_length=320)] = ""
    patch: Annotated[dict[str, Any], Meta(max_length=MOST_KEYS)] = {}  # settings by dotted key
    canary: Annotated[Ratio, Meta(ge=0, le=1)] = 1.0  # share of the nodes it is for
    schedule: Window | None = None  # when of a day; None: always
    begins: float = 0.0  # seconds since the epoch
    expires: float | None = None  # seconds since the epoch; None: never

    @property
    def scope(self) -> str:
        """As people write it: "cluster", "pool=batch", "service=shop/Deployment/cart"."""
        return f"{self.tier}={self.selector}" if self.selector else str(self.tier)


class PolicyDocument(msgspec.Struct, frozen=True, kw_only=True):
    """One named policy of one room, with what it said before."""

    at: float
    source: str
    room: str
    name: Name
    editions: Annotated[tuple[Edition, ...], Meta(min_length=1, max_length=MOST_EDITIONS)]  # newest first
    last: int = 1  # the highest version ever given

    @property
    def now(self) -> Edition:
        """The newest edition."""
        return self.editions[0]

    def set(self, edition: Edition) -> PolicyDocument:
        """With one more edition, which gets the next version."""
        new = msgspec.structs.replace(edition, version=self.last + 1)
        kept = (new, *self.editions)[:MOST_EDITIONS]
        return msgspec.structs.replace(self, at=edition.at, editions=kept, last=new.version)

    def rolled_back(self, at: float) -> PolicyDocument | None:
        """Without its newest edition; None if there was no other."""
        if len(self.editions) == 1:
            return None
        return msgspec.structs.replace(self, at=at, editions=self.editions[1:])


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """For whom it is asked: a node, or (with `service`: namespace/owner) a workload's pods on that node."""

    node: str
    pool: str = ""
    service: str = ""


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What one edition says about one key."""

    document: str
    version: int
    scope: str
    value: Any
    reason: str = ""


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """Who said a value, and whom it beat, strongest first."""

    won: Claim
    beat: tuple[Claim, ...] = ()


class Why(StrEnum):
    """Why a document, or an edition of it, has no effect here and now."""

    ELSEWHERE = "elsewhere"
    CANARY = "canary"
    SCHEDULE = "schedule"
    NOT_YET = "not yet"
    EXPIRED = "expired"
    INVALID = "invalid"


class Absent(msgspec.Struct, frozen=True, kw_only=True):
    """An edition without effect here and now. After an invalid one the edition before it is looked at."""

    document: str
    version: int
    scope: str
    why: Why
    says: str  # with the numbers compared


class Effective(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for one target; `until` then, unless a document changes."""

    values: dict[str, Any] = {}  # by dotted key
    provenance: dict[str, Provenance] = {}
    absent: tuple[Absent, ...] = ()
    until: Seconds = math.inf

    @property
    def refused(self) -> tuple[Absent, ...]:
        """The editions that do not hold."""
        return tuple(absent for absent in self.absent if absent.why is Why.INVALID)


Values: TypeAlias = Mapping[str, Any]
Read: TypeAlias = Callable[[str, Edition], Values]  # (document, edition) -> its values by dotted key
Fit: TypeAlias = Callable[[Values], object]  # do values of several documents hold together?
# Both raise InputError or SettingsError, naming key and bound.


def share(name: str, node: str) -> Ratio:
    """Where a node stands in the order in which it gets this document; in [0, 1), the same for ever."""
    digest = hashlib.sha256(f"{name}\0{node}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def flaw(edition: Edition) -> str:
    """What is wrong with an edition whatever its room is; empty if nothing."""
    namespace, slash, owner = edition.selector.partition("/")
    match edition.tier:
        case Tier.CLUSTER if edition.selector:
            return f"the tier cluster selects nothing, but {edition.selector!r} is named"
        case Tier.POOL | Tier.NODE if not edition.selector:
            return f"the tier {edition.tier} needs a name: {edition.tier}=NAME"
        case Tier.SERVICE if not (namespace and slash and owner):
            return f"the tier service needs service=NAMESPACE/OWNER, not {edition.selector!r}"
    if not edition.patch:
        return "it changes nothing: the patch is empty"
    if edition.expires is not None and edition.expires <= edition.begins:
        return f"it expires ({edition.expires:.0f}) before it begins ({edition.begins:.0f})"
    return edition.schedule.flaw if edition.schedule is not None else ""


def resolve(documents: Iterable[PolicyDocument], target: Target, at: Seconds, read: Read, fit: Fit) -> Effective:
    """What the documents of one room mean for one target at one time.

    Laws: independent of the documents' order; for every key the winner's tier is the highest of those in force; a
    document that is refused, scheduled out, expired or elsewhere changes nothing that others say.
    Cost: O(editions) reads and fits at worst, one fit where all go together.
    """
    return _Resolution(target, at, read, fit).of(sorted(documents, key=lambda document: document.name))


class _Resolution:
    """One call of `resolve`."""

    def __init__(self, target: Target, at: Seconds, read: Read, fit: Fit) -> None:
        self._target, self._at, self._read, self._fit = target, at, read, fit
        self._absent: list[Absent] = []
        self._until = math.inf
        self._values: dict[str, list[tuple[_Strength, Claim]]] = {}

    def of(self, documents: list[PolicyDocument]) -> Effective:
        waiting: list[_Standing] = []
        for document in documents:
            self._stand(document, 0, waiting)
        if not self._goes(self._merged(sorted(waiting))):
            waiting = self._one_by_one(waiting)
        for standing in waiting:
            for key, value in standing.values.items():
                self._values.setdefault(key, []).append((standing.strength, _claim(standing, value)))
        provenance = {}
        for key, claims in sorted(self._values.items()):
            won, *beat = (claim for _, claim in sorted(claims, key=lambda pair: pair[0], reverse=True))
            provenance[key] = Provenance(won=won, beat=tuple(beat))
        values = {key: found.won.value for key, found in provenance.items()}
        return Effective(values=values, provenance=provenance, absent=tuple(self._absent), until=self._until)

    def _stand(self, document: PolicyDocument, start: int, into: list[_Standing]) -> None:
        """Put the standing edition of a document on the heap, if it is in force here and now."""
        for place, edition in enumerate(document.editions[start:], start):
            try:
                values = self._values_of(document.name, edition)
            except (InputError, SettingsError) as error:
                self._leave_out(document.name, edition, Why.INVALID, str(error))
                continue
            if self._is_in_force(document.name, edition):
                strength = (TIERS.index(edition.tier), edition.at, document.name)
                heapq.heappush(into, _Standing(strength, document, place, values))
            return

    def _values_of(self, name: str, edition: Edition) -> Values:
        if wrong := flaw(edition):
            raise InputError(wrong)
        return self._read(name, edition)

    def _one_by_one(self, waiting: list[_Standing]) -> list[_Standing]:
        """The weaker first; one that does not go together with them gives way to its earlier edition."""
        taken: list[_Standing] = []
        while waiting:
            standing = heapq.heappop(waiting)
            try:
                self._fit(self._merged(sorted([*taken, standing])))
            except (InputError, SettingsError) as error:
                self._leave_out(standing.document.name, standing.edition, Why.INVALID, f"beside the others: {error}")
                self._stand(standing.document, standing.place + 1, waiting)
            else:
                taken.append(standing)
        return taken

    def _goes(self, values: Values) -> bool:
        try:
            self._fit(values)
        except (InputError, SettingsError):
            return False
        return True

    @staticmethod
    def _merged(ascending: list[_Standing]) -> Values:
        return {key: value for standing in ascending for key, value in standing.values.items()}

    def _is_in_force(self, name: str, edition: Edition) -> bool:
        at, target = self._at, self._target
        mine = {Tier.POOL: target.pool, Tier.NODE: target.node, Tier.SERVICE: target.service}
        if edition.tier in mine and mine[edition.tier] != edition.selector:
            is_of = f"this is {edition.tier} {mine[edition.tier]}" if mine[edition.tier] else f"no {edition.tier} here"
            return self._leave_out(name, edition, Why.ELSEWHERE, f"for {edition.scope}, {is_of}")
        if (place := share(name, target.node)) >= edition.canary:
            says = f"the canary reaches {edition.canary:.1%} of the nodes, {target.node} stands at {place:.1%}"
            return self._leave_out(name, edition, Why.CANARY, says)
        if at < edition.begins:
            self._until = min(self._until, edition.begins)
            return self._leave_out(name, edition, Why.NOT_YET, f"begins in {edition.begins - at:.0f} s")
        if edition.expires is not None and at >= edition.expires:
            return self._leave_out(name, edition, Why.EXPIRED, f"expired {at - edition.expires:.0f} s ago")
        self._until = min(self._until, math.inf if edition.expires is None else edition.expires)
        if edition.schedule is not None:
            self._until = min(self._until, edition.schedule.changes_after(at))
            if not edition.schedule.holds(at):
                return self._leave_out(name, edition, Why.SCHEDULE, f"only {edition.schedule}")
        return True

    def _leave_out(self, name: str, edition: Edition, why: Why, says: str) -> bool:
        self._absent.append(Absent(document=name, version=edition.version, scope=edition.scope, why=why, says=says))
        return False


_Strength: TypeAlias = tuple[int, float, str]  # tier, when it was said, name


class _Standing:
    """An edition in force, and what it says."""

    __slots__ = ("document", "edition", "place", "strength", "values")

    def __init__(self, strength: _Strength, document: PolicyDocument, place: int, values: Values) -> None:
        self.strength, self.document, self.place, self.values = strength, document, place, values
        self.edition = document.editions[place]

    def __lt__(self, other: _Standing) -> bool:
        return self.strength < other.strength


def _claim(standing: _Standing, value: Any) -> Claim:
    edition = standing.edition
    return Claim(
        document=standing.document.name,
        version=edition.version,
        scope=edition.scope,
        value=value,
        reason=edition.reason,
    )


def pool_of(*labels: Mapping[str, str]) -> str:
    """The pool a node is in, by the first of these labels that names one; empty: none."""
    return next((pool for each in labels if (pool := each.get(POOL_LABEL, ""))), "")
