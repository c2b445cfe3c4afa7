"""What the API server knows of one kind, told as it changes: list, then watch, and never lose the thread.

    list (paged) -> told -> watch from the list's version -> cut, ended or silent: reopened from the last version heard
                      ^                                   -> too far behind (410), or `relist_every` is over
                      '---------------------------------------'

Laws: an object is told once per version. It is taken back only if the server said so, or if it is absent from a list
that was read to its end; a list that was cut takes nothing back. A list in doubt is believed once the next one agrees:
an empty one where there was much, and one older than what was heard (a server restored from a backup).
Remembered per object: key, version and uid as two strings; 10,000 pods are about 3 MiB.

The machine is pure. It is told what happened, and answers with what to say and, at the end, with the one thing to do
next. Only `ListPage`, `OpenWatch` and `Wait` end an open watch.
Source: Kubernetes documentation, "API concepts: efficient detection of changes"; client-go's reflector (idea); delays
with jitter after "Exponential Backoff And Jitter" (AWS architecture blog).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from typing import Annotated, Any, Final, TypeAlias

import msgspec
from msgspec import Meta

from neap.common.errors import Expired, PortError, Rejected, Throttled, Vanished
from neap.common.kube.kind import Kind
from neap.common.kube.objects import Metadata
from neap.common.kube.port import Change, Page, Watched
from neap.common.model.api import KindState
from neap.common.units import HOUR, Ratio, Seconds
from neap.gateway.core.hearing.following import (
    Begun,
    Broke,
    ChangeHeard,
    Ended,
    Listen,
    ListPage,
    Opened,
    OpenWatch,
    Order,
    PageRead,
    Passed,
    Say,
    Wait,
    What,
)

MOST_PAGES: Final = 10_000
OLDER: Final = "older"
EMPTY: Final = "empty"
SETTLE: Final[Seconds] = 1.0  # a reopened watch that is silent for so long had nothing to catch up with

Positive: TypeAlias = Annotated[Seconds, Meta(gt=0)]


class ReflectorSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one kind is followed."""

    page: Annotated[int, Meta(ge=1, le=5000)] = 500  # objects asked for at once
    watch_within: Annotated[Seconds, Meta(ge=1, le=HOUR)] = 300.0  # a watch is asked to end by itself after so long
    silence: Positive = 120.0  # a watch that says nothing, not even a bookmark (one a minute), is reopened
    stale_after: Positive = 30.0  # cut off for so long, what is known is said to be stale
    first_retry: Positive = 0.5  # after the first failure in a row; twice as long after each further one
    last_retry: Positive = 30.0  # at most
    lived: Positive = 10.0  # a watch that lived so long is no failure when it ends
    relist_every: Positive = 1800.0  # everything is read anew, in case something was missed
    relist_spread: Annotated[Seconds, Meta(ge=0)] = 2.0  # a list after a 410 waits up to so long; not all at once
    jitter: Annotated[Ratio, Meta(ge=0, le=1)] = 0.2  # of relist_every and of silence, either way
    many: Annotated[int, Meta(ge=1)] = 10  # an empty list where so many were known is doubted
    optional: bool = False  # a kind that the server may not have: then there are none of it


# -- what is said -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Seen:
    """Added, or changed since it was last told."""

    kind: Kind[Any]
    object: Any
    version: str


@dataclass(frozen=True, slots=True)
class Removed:
    """Deleted, or absent from a whole list."""

    kind: Kind[Any]
    key: str
    uid: str


@dataclass(frozen=True, slots=True)
class Complete:
    """Everything is known: a list was read to its end, or what was stale has caught up."""

    kind: Kind[Any]
    version: str
    count: int


@dataclass(frozen=True, slots=True)
class Stale:
    """Nothing was heard since, and why; ends with the next Seen or Complete."""

    kind: Kind[Any]
    since: Seconds
    why: str


Said: TypeAlias = Seen | Removed | Complete | Stale


@dataclass(frozen=True, slots=True)
class _Listing:
    """How far a list has come."""

    absent: set[str]  # known, and not in the pages so far
    version: str = ""
    pages: int = 0


class Reflector:
    """See module docstring. `handle` is the only mutator."""

    def __init__(self, kind: Kind[Any], settings: ReflectorSettings, *, seed: int = 0) -> None:
        self.kind = kind
        self._settings = settings
        self._random = Random(f"{seed}.{kind}")
        self._known: dict[str, str] = {}  # key -> "version uid"
        self._version = ""  # the newest heard; "" before the first list
        self._listing: _Listing | None = None
        self._opened: Seconds | None = None  # since when a watch is open
        self._deadline: Seconds = math.inf  # of silence, on the open watch
        self._wants_list, self._retry_at = True, 0.0
        self._doubted: set[str] = set()  # what was odd about lists since the last one that was believed
        self._failures = 0
        self._relist_at: Seconds = math.inf
        self._heard_at: Seconds | None = None  # None before the first event
        self._catching_up = False
        self._stale_since: Seconds | None = None
        self._why = "not read yet"
        self._complete = False
        self.lists = self.relists = self.watches = self.failed = self.repeats = 0

    def __len__(self) -> int:
        return len(self._known)

    def state(self, at: Seconds) -> KindState:
        """For people."""
        heard = self._heard_at if self._heard_at is not None else at
        is_cut = self._opened is None
        return KindState(
            kind=str(self.kind),
            version=self._version,
            count=len(self._known),
            complete=self._complete,
            age=max(0.0, at - heard),
            stale=max(0.0, at - heard) if is_cut and self._stale_since is not None else 0.0,
            why=self._why if is_cut else "",
            lists=self.lists,
            relists=self.relists,
            watches=self.watches,
            failures=self.failed,
        )

    def handle(self, what: What, at: Seconds) -> tuple[Order, ...]:
        """What to say, and what to do next, which stands last. O(1) but at the end of a list, which is O(known)."""
        if self._heard_at is None:
            self._heard_at = at
        match what:
            case Begun():
                return self._list()
            case PageRead(page=page):
                return self._read(page, at)
            case Opened():
                self._opened, self._catching_up = at, self._stale_since is not None
                self._deadline = at + self._jittered(self._settings.silence)
                return (self._listen(),)
            case ChangeHeard(line=line):
                return self._change(line, at)
            case Ended():
                return self._closed(at, "the watch ended")
            case Broke(error=error):
                return self._broke(error, at)
            case Passed():
                return self._passed(at)

    # -- lists

    def _list(self) -> tuple[Order, ...]:
        self._wants_list = True
        self._listing = _Listing(set(self._known))
        self.lists += 1
        self.relists += self._complete
        return (ListPage(self._settings.page),)

    def _read(self, page: Page[Any], at: Seconds) -> tuple[Order, ...]:
        listing = self._listing or _Listing(set(self._known))
        self._heard_at = at
        if listing.pages and page.version != listing.version:
            return self._again(at, f"its pages are of versions {listing.version} and {page.version}")
        if listing.pages >= MOST_PAGES:
            return self._again(at, f"more than {MOST_PAGES} pages")
        if is_newer(self._version, page.version) and OLDER not in self._doubted:
            self._doubted.add(OLDER)
            return self._again(at, f"the list is of version {page.version}, {self._version} was heard before")
        said: list[Order] = []
        for object in page.items:
            said += self._found(object, listing.absent)
        self._stale_since = None if said else self._stale_since
        self._listing = _Listing(listing.absent, page.version, listing.pages + 1)
        if page.token:
            return (*said, ListPage(self._settings.page, page.token))
        empties = len(listing.absent) == len(self._known) >= self._settings.many
        if empties and EMPTY not in self._doubted:
            self._doubted.add(EMPTY)
            return self._again(at, f"the list is empty, {len(self._known)} were known")
        return (*said, *self._listed(listing.absent, page.version, at))

    def _found(self, object: Any, absent: set[str]) -> Iterable[Order]:
        """One object of a list: what stands in it is newer than whatever was heard before."""
        meta: Metadata = object.metadata
        absent.discard(meta.key)
        return self._see(object, meta)

    def _listed(self, absent: set[str], version: str, at: Seconds) -> tuple[Order, ...]:
        """A whole list: what is not in it is gone."""
        removed = [Say(Removed(self.kind, key, _uid(self._known.pop(key)))) for key in sorted(absent)]
        self._listing, self._wants_list, self._version = None, False, version
        self._doubted.clear()
        self._relist_at = at + self._jittered(self._settings.relist_every)
        return (*removed, self._told_complete(), self._open())

    def _again(self, at: Seconds, why: str, least: Seconds = 0.0) -> tuple[Order, ...]:
        """This list was cut, or is not to be trusted: nothing is taken back, and another one is read."""
        self._listing, self._why = None, why
        return self._retry(at, least)

    # -- watches

    def _open(self) -> OpenWatch:
        self.watches += 1
        self._opened = None
        return OpenWatch(self._version, self._settings.watch_within)

    def _listen(self) -> Listen:
        opened = self._opened or 0.0
        return Listen(min(self._deadline, self._relist_at, opened + SETTLE if self._catching_up else math.inf))

    def _change(self, line: Watched[Any], at: Seconds) -> tuple[Order, ...]:
        is_late = line.version == self._version or is_newer(self._version, line.version)
        said: Iterable[Order] = ()
        if line.change is Change.BOOKMARK or is_late:
            self.repeats += is_late and line.change is not Change.BOOKMARK
        elif line.object is not None:
            meta: Metadata = line.object.metadata
            said = self._gone(meta) if line.change is Change.DELETED else self._see(line.object, meta)
        if not is_late and line.version:
            self._version, self._failures = line.version, 0
        self._heard_at, self._deadline = at, at + self._jittered(self._settings.silence)
        told = tuple(said)
        self._stale_since = None if told else self._stale_since
        if line.change is Change.BOOKMARK and self._catching_up:
            told = (self._told_complete(),)
        return (*told, self._listen())

    def _see(self, object: Any, meta: Metadata) -> Iterable[Order]:
        key, version = meta.key, meta.resource_version
        if not meta.name:
            return
        known, told = self._known.get(key), f"{version} {meta.uid}"
        if known == told:
            return
        if known is not None and _uid(known) != meta.uid:
            yield Say(Removed(self.kind, key, _uid(known)))
        self._known[key] = told
        yield Say(Seen(self.kind, object, version))

    def _gone(self, meta: Metadata) -> Iterable[Order]:
        """A deletion counts for whom it names: not for a namesake who came later."""
        known = self._known.get(meta.key)
        if known is not None and meta.uid in ("", _uid(known)):
            del self._known[meta.key]
            yield Say(Removed(self.kind, meta.key, _uid(known)))

    # -- failures and time

    def _broke(self, error: PortError, at: Seconds) -> tuple[Order, ...]:
        self.failed += 1
        least = min(error.after, 2 * self._settings.last_retry) if isinstance(error, Throttled) else 0.0
        if self._listing is None:
            if isinstance(error, Expired | Rejected):  # that past is gone, or its name is not understood
                self._wants_list, least = True, self._settings.relist_spread * self._random.random()
            return self._closed(at, str(error), least)
        if isinstance(error, Vanished) and self._settings.optional and not self._known:
            return self._no_such_kind(at)
        return self._again(at, str(error), least)

    def _closed(self, at: Seconds, why: str, least: Seconds = 0.0, *, in_silence: bool = False) -> tuple[Order, ...]:
        """The watch is over; one that lived is reopened almost at once, others wait longer each time."""
        lived = at - self._opened if self._opened is not None else 0.0
        if lived >= SETTLE and not in_silence:
            self._heard_at = at  # until now there was nothing to hear
        if lived >= self._settings.lived:
            self._failures = 0
        self._opened, self._why = None, why
        return self._retry(at, least)

    def _no_such_kind(self, at: Seconds) -> tuple[Order, ...]:
        self._listing, self._heard_at, self._failures = None, at, 0
        self._retry_at = at + self._jittered(self._settings.relist_every)
        self._why = "the server has no such kind"
        return (*(() if self._complete else (self._told_complete(),)), Wait(self._retry_at))

    def _retry(self, at: Seconds, least: Seconds) -> tuple[Order, ...]:
        """Wait, and do again what was being done."""
        delay = min(self._settings.last_retry, self._settings.first_retry * 2.0 ** min(self._failures, 32))
        self._failures += 1
        self._retry_at = at + max(least, delay * (0.5 + 0.5 * self._random.random()))
        return (*self._stale(at), self._wait())

    def _wait(self) -> Wait:
        """Until the next attempt, or until it is time to say that what is known is stale."""
        heard = self._heard_at or 0.0
        stale_at = heard + self._settings.stale_after if self._stale_since is None else math.inf
        return Wait(min(self._retry_at, stale_at))

    def _passed(self, at: Seconds) -> tuple[Order, ...]:
        if self._opened is not None:
            return self._silent(at)
        if at < self._retry_at:
            return (*self._stale(at), self._wait())
        return (*self._stale(at), *(self._list() if self._wants_list else (self._open(),)))

    def _silent(self, at: Seconds) -> tuple[Order, ...]:
        """Nothing came on the open watch until a time that was waited for."""
        if at >= self._relist_at:
            self._opened = None
            return self._list()
        if at >= self._deadline:
            why = f"the watch said nothing for {at - (self._heard_at or at):.0f} s"
            return self._closed(at, why, in_silence=True)
        if self._catching_up and at >= (self._opened or at) + SETTLE:
            self._heard_at = at
            return (self._told_complete(), self._listen())
        return (self._listen(),)

    def _stale(self, at: Seconds) -> tuple[Order, ...]:
        heard = self._heard_at or 0.0
        if self._stale_since is not None or at < heard + self._settings.stale_after:
            return ()
        self._stale_since = heard
        return (Say(Stale(self.kind, heard, self._why)),)

    def _told_complete(self) -> Say:
        self._complete, self._stale_since, self._catching_up = True, None, False
        return Say(Complete(self.kind, self._version, len(self._known)))

    def _jittered(self, seconds: Seconds) -> Seconds:
        return seconds * (1 + self._settings.jitter * (2 * self._random.random() - 1))

    def validate(self) -> None:
        """What is absent from a running list is known; a watch is open only when no list is read."""
        assert self._listing is None or self._listing.absent <= set(self._known)
        assert self._listing is None or self._opened is None


def _uid(known: str) -> str:
    return known.partition(" ")[2]


def is_newer(version: str, than: str) -> bool:
    """Whether one resource version is above another; not, where they are no whole numbers.

    Source: Kubernetes 1.35, KEP-5504: resource versions of one kind may be compared as numbers.
    """
    return version.isdecimal() and than.isdecimal() and int(version) > int(than)
