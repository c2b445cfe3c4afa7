"""What an API server in memory keeps: the newest object of every name, and what happened before.

Versions are counted over all kinds, as etcd's are. Objects are never changed in place, so a page of a list that was
begun is a tuple of what was there then. The past is kept up to a length, or until it is compacted.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import msgspec

from neap.common.errors import Expired
from neap.common.kube.kind import Kind
from neap.common.kube.memory_fields import Owners
from neap.common.kube.port import Change

T = TypeVar("T")

KEPT: Final = 100_000  # changes per kind; twice that at most
TOKENS: Final = 256  # lists that were begun and not read to their end


@dataclass(frozen=True, slots=True)
class Entry:
    """One object at one version; `owners` says whose its fields are."""

    version: int
    object: dict[str, Any]
    owners: Owners
    _read: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    def read(self, kind: Kind[T]) -> T:
        """As the narrow Struct of the kind; once per version, for it is frozen."""
        found: T | None = self._read.get(kind.model)
        if found is None:
            found = self._read[kind.model] = msgspec.convert(self.object, kind.model)
        return found


@dataclass(frozen=True, slots=True)
class Event:
    """What happened at a version; `before` is what was there until then."""

    version: int
    change: Change
    key: str
    entry: Entry
    before: Entry | None


@dataclass(slots=True)
class Shelf:
    """Of one kind."""

    entries: dict[str, Entry] = field(default_factory=dict)
    log: list[Event] = field(default_factory=list)
    forgotten: int = 0  # changes up to this version are not kept
    trimmed: int = 0  # how many that is
    waiting: list[asyncio.Future[None]] = field(default_factory=list)

    def wake(self) -> None:
        """Tell everybody who waits for news."""
        waiting, self.waiting = self.waiting, []
        for each in waiting:
            if not each.done():
                each.set_result(None)


class Store:
    """See module docstring."""

    def __init__(self) -> None:
        self.version = 1
        self._shelves: dict[str, Shelf] = {}
        self._begun: dict[str, tuple[int, tuple[Entry, ...]]] = {}
        self._tokens = 0

    def shelf(self, kind: Kind[Any]) -> Shelf:
        """All of one kind."""
        found = self._shelves.get(str(kind))
        if found is None:
            found = self._shelves[str(kind)] = Shelf(forgotten=self.version - 1)
        return found

    def put(self, kind: Kind[Any], key: str, object: dict[str, Any], owners: Owners) -> Entry:
        """A new version of an object."""
        shelf = self.shelf(kind)
        before = shelf.entries.get(key)
        entry = shelf.entries[key] = self._next(object, owners)
        self._log(shelf, Event(entry.version, Change.MODIFIED if before else Change.ADDED, key, entry, before))
        return entry

    def drop(self, kind: Kind[Any], key: str) -> None:
        """An object is gone; the last that is told of it bears a version of its own."""
        shelf = self.shelf(kind)
        before = shelf.entries.pop(key)
        entry = self._next(before.object, before.owners)
        self._log(shelf, Event(entry.version, Change.DELETED, key, entry, before))

    def _next(self, object: dict[str, Any], owners: Owners) -> Entry:
        self.version += 1
        metadata = {**object["metadata"], "resourceVersion": str(self.version)}
        return Entry(self.version, {**object, "metadata": metadata}, owners)

    @staticmethod
    def _log(shelf: Shelf, event: Event) -> None:
        shelf.log.append(event)
        if len(shelf.log) > 2 * KEPT:
            Store._forget(shelf, KEPT)
        shelf.wake()

    @staticmethod
    def _forget(shelf: Shelf, many: int) -> None:
        if many:
            shelf.forgotten = shelf.log[many - 1].version
            shelf.trimmed += many
            del shelf.log[:many]

    def compact(self) -> None:
        """Forget the past."""
        self._begun.clear()
        for shelf in self._shelves.values():
            self._forget(shelf, len(shelf.log))
            shelf.forgotten = self.version

    # -- lists

    def page(
        self, kind: Kind[Any], limit: int, token: str, wanted: Callable[[Entry], bool]
    ) -> tuple[int, tuple[Entry, ...], str]:
        """Version, entries, and the token of what is left.

        Raises:
            Expired: the list that this token goes on with is not kept any more.
        """
        if token:
            if token not in self._begun:
                raise Expired(f"list {kind}: the provided continue parameter is too old")
            version, entries = self._begun[token]
        else:
            found = self.shelf(kind).entries
            version, entries = self.version, tuple(found[key] for key in sorted(found) if wanted(found[key]))
        page, rest = (entries[:limit], entries[limit:]) if limit else (entries, ())
        return version, page, self._keep(version, rest) if rest else ""

    def _keep(self, version: int, rest: tuple[Entry, ...]) -> str:
        self._tokens += 1
        token = f"{version}-{self._tokens}"
        self._begun[token] = (version, rest)
        if len(self._begun) > TOKENS:
            del self._begun[next(iter(self._begun))]
        return token

    # -- watches

    def place(self, kind: Kind[Any], version: int) -> int:
        """Where in the kind's life a watch from `version` begins.

        Raises:
            Expired: what came after it is not kept.
        """
        shelf = self.shelf(kind)
        if version < shelf.forgotten:
            raise Expired(f"watch {kind}: too old resource version: {version} ({shelf.forgotten})")
        return shelf.trimmed + bisect_right(shelf.log, version, key=lambda event: event.version)

    def after(self, kind: Kind[Any], place: int) -> Event | None:
        """What happened there, if anything yet.

        Raises:
            Expired: it is not kept any more.
        """
        shelf = self.shelf(kind)
        if place < shelf.trimmed:
            raise Expired(f"watch {kind}: too far behind ({shelf.trimmed - place} changes are not kept)")
        return shelf.log[place - shelf.trimmed] if place - shelf.trimmed < len(shelf.log) else None

    def wake(self) -> None:
        """Tell every watch to look around."""
        for shelf in self._shelves.values():
            shelf.wake()
