"""Settings that change while a room runs: policy documents in, validated Settings out.

A room says once what of it may change (`Tunable`, found by the console as `wiring.tunable`). Its machine keeps a
`Tuning`, tells it every event, and works with `tuning.settings`:

    said = self._tuning.hear(event)              # folds POLICY, NODES, TOPOLOGY; looks at the time
    if self._tuning.round != self._tuned:
        ...                                      # there are new ones
    self._tuning.of(workload)                    # where a service may have settings of its own

or is put into a `TunedMachine`, which does that for it. What is in force is computed again when a document, the node's
pool or (by `Effective.until`) the time changes it, and not otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec

from neap.common.contract.catalogue import NODES, POLICY
from neap.common.contract.channel import Channel
from neap.common.errors import InputError
from neap.common.model.node import NodeObject
from neap.common.model.policy import (
    MOST_DOCUMENTS,
    Edition,
    Effective,
    PolicyDocument,
    Target,
    Tier,
    Values,
    pool_of,
    resolve,
)
from neap.common.model.topology import NodeTopology
from neap.common.model.workload import Workload
from neap.common.runtime.machine import Arrived, Count, Event, Gone, Instruction, Machine, Synced
from neap.common.runtime.settings import flattened, patched
from neap.common.telemetry.log import get_logger
from neap.common.units import Seconds

S = TypeVar("S", bound=msgspec.Struct)
S_contra = TypeVar("S_contra", bound=msgspec.Struct, contravariant=True)
REFUSED: Final = "neap_policy_refused_total"
CHANGED: Final = "neap_policy_changes_total"
MOST_SERVICES: Final = 1024  # whose settings are remembered; more than run on a node at once


@dataclass(frozen=True)
class Tunable(Generic[S]):
    """What of a room's settings may change while it runs."""

    room: str
    kind: type[S]
    fixed: frozenset[str] = frozenset({"node"})  # the room is built with them
    per_service: frozenset[str] = frozenset()  # dotted keys that may differ for the pods of one service
    check: Callable[[S], object] = lambda _: None  # raises InputError or SettingsError where bounds do not say it all

    def read(self, document: str, edition: Edition, default: S) -> Values:
        """The values of one edition by dotted key, each within its bounds.

        Raises:
            InputError, SettingsError: names document, key and bound.
        """
        origin = f"policy {document} v{edition.version}"
        flat = flattened(self.kind, self.room, edition.patch, origin=origin)
        for key in flat:
            if key.split(".")[0] in self.fixed or key in self.fixed:
                raise InputError(f"{origin}: {key} cannot change while {self.room} runs")
            if edition.tier is Tier.SERVICE and key not in self.per_service:
                possible = ", ".join(sorted(self.per_service)) or "nothing"
                raise InputError(f"{origin}: {key} cannot be set for one service (possible: {possible})")
        self.fit(flat, default, origin=origin)
        return flat

    def fit(self, flat: Values, default: S, *, origin: str = "policy") -> S:
        """The settings with these values over `default`.

        Raises:
            InputError, SettingsError: they do not hold together.
        """
        settings = patched(default, self.room, flat, origin=origin)
        self.check(settings)
        return settings

    def resolve(self, documents: Sequence[PolicyDocument], target: Target, at: Seconds, default: S) -> Effective:
        """What holds for a target; see neap.common.model.policy."""
        return resolve(
            documents,
            target,
            at,
            lambda document, edition: self.read(document, edition, default),
            lambda flat: self.fit(flat, default),
        )


@dataclass(frozen=True, slots=True)
class TellPolicy(Instruction):
    """Say in the log what became of the policy."""

    event: str
    document: str
    why: str


class Tuning(Generic[S]):
    """The settings in force on one node; see module docstring."""

    def __init__(self, tunable: Tunable[S], default: S, node: str) -> None:
        self._tunable, self._default, self._node = tunable, default, node
        self.settings: S = default
        self.round = 0  # goes up when settings, of the room or of any service, may have changed
        self._documents: dict[str, PolicyDocument] = {}
        self._labels: dict[str, str] = {}  # as the cluster has them
        self._machine_labels: dict[str, str] = {}  # as the machine says
        self._services: dict[str, S] = {}
        self._found: dict[str, Effective] = {"": Effective()}  # by service; empty: the node
        self._for_services = False  # whether any document speaks of one
        self._until = math.inf
        self._refused: frozenset[tuple[str, int]] = frozenset()
        self._unread: list[Channel[Any]] = [POLICY, NODES]
        self._at: Seconds = -math.inf

    @property
    def pool(self) -> str:
        """The pool of nodes this one is in."""
        return pool_of(self._labels, self._machine_labels)

    @property
    def is_synced(self) -> bool:
        """Whether all that is stored is known."""
        return not self._unread

    def hear(self, event: Event) -> Sequence[Instruction]:
        """Fold one event, whatever it is about; what there is to say about policy."""
        self._at = event.at
        before, is_news = self.pool, False
        match event:
            case Arrived(message=PolicyDocument() as document) if document.room == self._tunable.room:
                self._documents = self._capped(self._documents | {document.name: document})
                is_news = True
            case Gone(channel=channel, subject=subject) if channel == POLICY:
                gone = POLICY.tokens_of(subject)["name"]
                is_news = self._documents.pop(gone, None) is not None
            case Arrived(message=NodeObject(node=node, labels=labels)) if node == self._node:
                self._labels = labels
            case Arrived(message=NodeTopology(node=node, labels=labels)) if node == self._node:
                self._machine_labels = labels
            case Gone(channel=channel) if channel == NODES:
                self._labels = {}
            case Synced(channel=channel) if channel in self._unread:
                self._unread.remove(channel)
                is_news = self.is_synced
        due = is_news or event.at >= self._until or self.pool != before
        return self._renew(event.at) if due and self.is_synced else ()

    def of(self, workload: Workload) -> S:
        """The settings for one workload's pods, as of the last event."""
        if not self._for_services:
            return self.settings
        service = service_of(workload)
        if service not in self._services:
            if len(self._services) >= MOST_SERVICES:  # most of them have left the node
                self._services, self._found = {}, {"": self._found[""]}
            found = self._resolved(self._at, service)
            self._until = min(self._until, found.until)
            mine, self._found[service] = self._tunable.fit(found.values, self._default), found
            self._services[service] = self.settings if mine == self.settings else mine
        return self._services[service]

    def claims(self, prefix: str, workload: Workload | None = None) -> tuple[str, ...]:
        """What policy says of the keys below a prefix: "ratio = 1.5 by policy batch-canary v3 (pool=batch)"."""
        if workload is not None:
            self.of(workload)
        found = self._found.get(service_of(workload) if workload is not None else "", self._found[""])
        return tuple(
            f"{key.removeprefix(prefix)} = {won.value} by policy {won.document} v{won.version} ({won.scope})"
            for key, provenance in found.provenance.items()
            if key.startswith(prefix) and (won := provenance.won)
        )

    def _capped(self, documents: dict[str, PolicyDocument]) -> dict[str, PolicyDocument]:
        return {name: documents[name] for name in sorted(documents)[:MOST_DOCUMENTS]}

    def _resolved(self, at: Seconds, service: str = "") -> Effective:
        target = Target(node=self._node, pool=self.pool, service=service)
        return self._tunable.resolve(tuple(self._documents.values()), target, at, self._default)

    def _renew(self, at: Seconds) -> Sequence[Instruction]:
        editions = (edition for document in self._documents.values() for edition in document.editions)
        self._for_services = any(edition.tier is Tier.SERVICE for edition in editions)
        found = self._resolved(at)
        self._until, self._services, self.round = found.until, {}, self.round + 1
        self._found = {"": found}
        said: list[Instruction] = []
        refused = {(absent.document, absent.version): absent for absent in found.refused}
        for key in sorted(refused.keys() - self._refused):
            said += [_counted(REFUSED, self._tunable.room), TellPolicy("policy.refused", key[0], refused[key].says)]
        self._refused = frozenset(refused)
        settings = self._tunable.fit(found.values, self._default)
        if settings != self.settings:
            by = sorted({provenance.won.document for provenance in found.provenance.values()})
            why = ", ".join(f"{key} = {value}" for key, value in sorted(found.values.items())) or "defaults"
            said += [_counted(CHANGED, self._tunable.room), TellPolicy("policy.changed", ", ".join(by), why)]
            self.settings = settings
        return said


class Adjustable(Machine, Protocol[S_contra]):
    """A machine that takes new settings while it runs."""

    def tune(self, settings: S_contra, at: Seconds) -> Sequence[Instruction]:
        """They hold from now on, and so does what `Tuning.of` says."""
        ...


class TunedMachine(Generic[S]):
    """A machine with policy around it: its settings follow, and it decides nothing before policy is known.

    Until then it is not told that anything is Synced.
    """

    def __init__(self, machine: Adjustable[S], tuning: Tuning[S]) -> None:
        self.machine, self.tuning = machine, tuning
        self._round = tuning.round
        self._held: list[Synced] = []

    def handle(self, event: Event) -> Sequence[Instruction]:
        """See Machine."""
        said = [*self.tuning.hear(event)]
        if self.tuning.round != self._round:
            self._round = self.tuning.round
            said += self.machine.tune(self.tuning.settings, event.at)
        if isinstance(event, Synced) and not self.tuning.is_synced:
            self._held.append(event)
            return said
        late = self._held if self.tuning.is_synced else []
        self._held = [] if late else self._held
        for before in late:
            said += self.machine.handle(Synced(event.at, before.channel, before.seq))
        return [*said, *self.machine.handle(event)]

    def validate(self) -> None:
        """See Machine."""
        self.machine.validate()


def service_of(workload: Workload) -> str:
    """What a policy for this workload's pods selects: namespace/owner, or namespace/name of a bare pod."""
    return f"{workload.namespace}/{workload.owner or workload.name}"


def tell_policy(room: str, node: str) -> Callable[[TellPolicy], Any]:
    """The effect of `TellPolicy`."""
    log = get_logger(room)

    async def tell(said: TellPolicy) -> None:
        say = log.warning if said.event == "policy.refused" else log.info
        say(said.event, policy=said.document, why=said.why, node=node)

    return tell


def _counted(metric: str, room: str) -> Count:
    return Count(metric, labels={"service": room})
