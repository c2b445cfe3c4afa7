"""Who leads: a coordination.k8s.io Lease, judged by one's own clock only.

    a follower takes over   `duration` (of the record) after it last *saw the record change*, and a bit for drift
    a leader stops          `renew_within` after it *sent* the last renewal that was accepted

Times in the record are for people: no two clocks are ever compared. With clocks whose rates differ by at most `drift`,
renew_within · (1 + drift) < duration · (1 − drift) makes sure that the old leader has stopped before the new one begins.
Every write is over the version that was read, so two never win at once.

Each term has a token, its `leaseTransitions`, one higher than the term before. It is carried by what the leader does,
so what a former leader still has on its way can be told from it. A term that lapsed is not taken up again, even by the
same replica: it gets the next token. Asked to stop, a leader first follows, and then releases.
Source: Gray & Cheriton, "Leases" (SOSP 1989); client-go leaderelection (record); Kleppmann, "How to do distributed
locking" (fencing).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta

from neap.common.errors import Conflict, PortError, SettingsError, Vanished
from neap.common.kube.objects import Lease, LeaseSpec, Metadata
from neap.common.model.api import LeaderState
from neap.common.units import Ratio, Seconds

Wait: TypeAlias = Annotated[Seconds, Meta(gt=0, le=3600)]
NOBODY: Final = ""


class LeaseSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How leadership passes on."""

    name: str = "neap-gateway"  # of the Lease
    namespace: str = "neap-system"  # of the Lease
    duration: Annotated[int, Meta(ge=1, le=3600)] = 15  # seconds; others wait so long for a silent leader
    renew_within: Wait = 10.0  # a leader that could not renew for so long stops
    retry_every: Wait = 2.0  # between two looks or renewals
    drift: Annotated[Ratio, Meta(ge=0, le=0.2)] = 0.05  # by which the rates of two clocks may differ

    def __post_init__(self) -> None:
        if self.renew_within * (1 + self.drift) >= self.duration * (1 - self.drift):
            raise SettingsError(
                f"lease.renew_within ({self.renew_within:g} s) is too long for lease.duration ({self.duration} s) "
                f"with clocks that differ by {self.drift:.0%}: two could lead at once"
            )


@dataclass(frozen=True, slots=True)
class Leads:
    """This replica leads, at least until then. What it does carries the token."""

    token: int
    until: Seconds


@dataclass(frozen=True, slots=True)
class Follows:
    """Somebody else leads, or nobody ("")."""

    holder: str


Role: TypeAlias = Leads | Follows

# -- what happened ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Looked:
    """The Lease was read; None: there is none."""

    lease: Lease | None


@dataclass(frozen=True, slots=True)
class Wrote:
    """The Lease was written, and is as said here."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Missed:
    """It could not be read or written."""

    error: PortError


@dataclass(frozen=True, slots=True)
class Woke:
    """The time waited for is here; also the first event."""


@dataclass(frozen=True, slots=True)
class Leave:
    """It is asked to stop: nothing this replica does as a leader is under way any more."""


What: TypeAlias = Looked | Wrote | Missed | Woke | Leave

# -- what to do -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tell:
    """Say who leads."""

    role: Role


@dataclass(frozen=True, slots=True)
class Look:
    """Read the Lease; Missed if there is no answer by then."""

    by: Seconds


@dataclass(frozen=True, slots=True)
class Write:
    """Create the Lease (no version in it), or replace exactly that version; Missed if there is no answer by then."""

    lease: Lease
    by: Seconds


@dataclass(frozen=True, slots=True)
class Sleep:
    """Woke, then."""

    until: Seconds


Next: TypeAlias = Look | Write | Sleep | None  # None: it has left
Order: TypeAlias = Tell | Next


class Elector:
    """One replica's part in it. `identity` is of one life: a replica that is started anew is another one."""

    def __init__(self, identity: str, settings: LeaseSettings, *, seed: int = 0) -> None:
        self.identity = identity
        self._settings = settings
        self._random = Random(f"{seed}.{identity}")
        self._seen: Lease | None = None
        self._fresh = False  # whether `_seen` is the newest as far as is known
        self._seen_at: Seconds = -math.inf  # when `_seen` was first seen as it is
        self._sent: tuple[Seconds, int] | None = None  # a write that would begin or renew this term, when it was sent
        self._token = 0  # of the term, 0: none
        self._until: Seconds = -math.inf
        self._last_token = 0  # highest ever seen
        self._told: str | None = None
        self._leaving = False

    def state(self, at: Seconds) -> LeaderState:
        """For people."""
        leads = self.leads(at)
        holder = self.identity if leads else self._holder()
        return LeaderState(
            holder=holder, leads=leads, token=self._token or self._last_token, until=self._until if leads else 0.0
        )

    def leads(self, at: Seconds) -> bool:
        """Whether this replica leads now."""
        return self._token > 0 and at < self._until

    def handle(self, what: What, at: Seconds) -> tuple[Order, ...]:
        """What to tell, and what to do next, which stands last."""
        told = self._lapse(at)
        match what:
            case Leave():
                return self._leave(at)
            case Woke():
                return (*told, self._write(at, self._token) if self._token and self._fresh else Look(self._by(at)))
            case Looked(lease=lease):
                self._see(lease, at)
                return (*told, *self._follow(), *self._decide(at))
            case Wrote(lease=lease):
                return (*told, *self._wrote(lease, at))
            case Missed(error=error):
                self._sent, self._fresh = None, False
                if isinstance(error, Conflict | Vanished):  # somebody was faster: look what it is now
                    return (*told, Sleep(at + 0.1 * self._settings.retry_every * (1 + self._random.random())))
                return (*told, self._sleep(at))

    # -- looking

    def _see(self, lease: Lease | None, at: Seconds) -> None:
        spec = lease.spec if lease is not None else LeaseSpec()
        self._last_token = max(self._last_token, spec.lease_transitions or 0)
        if self._seen_at == -math.inf or _record(lease) != _record(self._seen):
            self._seen_at = at
        self._seen, self._fresh = lease, True
        is_mine = spec.holder_identity == self.identity and spec.lease_transitions == self._token
        if self._token and not is_mine:
            self._token = 0  # somebody has taken it; the next `_follow` says so

    def _decide(self, at: Seconds) -> tuple[Order, ...]:
        if self._token:
            return (self._write(at, self._token),)
        spec = self._seen.spec if self._seen is not None else LeaseSpec()
        holder, duration = self._holder(), spec.lease_duration_seconds or self._settings.duration
        free_at = self._seen_at + duration / (1 - self._settings.drift)
        if self._seen is None or holder in (NOBODY, self.identity) or at >= free_at:
            return (self._write(at, self._last_token + 1),)
        return (Sleep(min(free_at, self._sleep(at).until)),)

    def _write(self, at: Seconds, token: int) -> Write:
        settings, seen = self._settings, self._seen
        is_new = token != self._token
        since = seen.spec.acquire_time if seen is not None and not is_new else _stamp(at)
        spec = LeaseSpec(
            holder_identity=self.identity,
            lease_duration_seconds=settings.duration,
            acquire_time=since,
            renew_time=_stamp(at),
            lease_transitions=token,
        )
        self._sent = (at, token)
        return Write(Lease(metadata=self._metadata(), spec=spec), self._by(at))

    def _metadata(self) -> Metadata:
        version = self._seen.metadata.resource_version if self._seen is not None else ""
        return Metadata(name=self._settings.name, namespace=self._settings.namespace, resource_version=version)

    # -- leading

    def _wrote(self, lease: Lease, at: Seconds) -> tuple[Order, ...]:
        sent, self._sent = self._sent, None
        self._see(lease, at)
        if sent is None:
            return (self._sleep(at),)
        sent_at, token = sent
        until = sent_at + self._settings.renew_within
        if at >= until:  # the answer came too late to be of use: that term is over before it began
            self._token = 0
            return (*self._follow(), self._sleep(at))
        self._token, self._until, self._told = token, until, self.identity
        return (Tell(Leads(token, until)), self._sleep(at))

    def _lapse(self, at: Seconds) -> tuple[Order, ...]:
        """A term that could not be renewed in time is over, whatever the record says."""
        if self._token and at >= self._until:
            self._token, self._sent = 0, None
            return self._follow()
        return ()

    def _follow(self) -> tuple[Order, ...]:
        """Say whom this replica follows, if that is news."""
        if self._token:
            return ()
        holder = NOBODY if self._holder() == self.identity else self._holder()
        if holder == self._told:
            return ()
        self._told = holder
        return (Tell(Follows(holder)),)

    def _leave(self, at: Seconds) -> tuple[Order, ...]:
        """Follow, then let go, so that the next one need not wait."""
        held = bool(self._token) and self._seen is not None
        self._token, self._sent = 0, None
        told = self._follow()
        if self._leaving or not held or self._seen is None:
            return (*told, None)
        self._leaving = True
        spec = msgspec.structs.replace(
            self._seen.spec, holder_identity=NOBODY, lease_duration_seconds=1, renew_time=_stamp(at)
        )
        return (*told, Write(Lease(metadata=self._metadata(), spec=spec), at + self._settings.renew_within))

    # -- time

    def _by(self, at: Seconds) -> Seconds:
        """When an answer is of no use any more: a leader must be able to stop in time."""
        return self._until if self._token else at + self._settings.renew_within

    def _sleep(self, at: Seconds) -> Sleep:
        every = self._settings.retry_every
        then = at + every * (1 if self._token else 1 + 0.2 * self._random.random())
        return Sleep(min(then, self._until) if self._token else then)

    def _holder(self) -> str:
        return (self._seen.spec.holder_identity or NOBODY) if self._seen is not None else NOBODY


def _record(lease: Lease | None) -> tuple[object, ...]:
    """What changes with every renewal."""
    if lease is None:
        return ()
    spec = lease.spec
    return (lease.metadata.resource_version, spec.holder_identity, spec.renew_time, spec.lease_transitions)


def _stamp(at: Seconds) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
