"""A folder watch: to be told that directories came or went, instead of looking again and again.

`follow` says which directories count, and of which files in them a write counts; `changes` yields what changed since
the last time, gathered over `GATHER` seconds, because whoever makes a directory goes on to fill it. A watch is a hint,
never the truth: who is told looks for himself, and looks now and then without being told.

The kernel's own directories tell what goes through a system call (mkdir, rmdir, write). What the kernel itself
announces (cgroup.events) is only told of a file somebody holds, so the files that count are watched as well.
Source: inotify(7); kernel documentation, admin-guide/cgroup-v2, "cgroup.events"; fs/kernfs/file.c, kernfs_notify.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import struct
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Final, Protocol

from neap.common.host.port import Changed, HostFs
from neap.common.host.real import RealHost, port_error
from neap.common.units import Seconds

GATHER: Final[Seconds] = 0.025  # at most 40 tellings a second, however many changes
MOST_FOLDERS: Final = 4096  # of one watch; the kernel's own limit is 8192 and more per user
CHUNK: Final = 1 << 16

_CREATE, _DELETE, _MOVED, _MODIFY = 0x100, 0x200, 0x40 | 0x80, 0x2
_ONLY_FOLDER, _OVERFLOW, _IGNORED, _IS_FOLDER = 0x01000000, 0x4000, 0x8000, 0x40000000
_EVENT: Final = struct.Struct("iIII")  # watch, mask, cookie, length of the name
_OPEN: Final = os.O_NONBLOCK | os.O_CLOEXEC  # IN_NONBLOCK, IN_CLOEXEC


class FolderWatch(Protocol):
    """See module docstring."""

    def follow(self, folders: Collection[str], files: Collection[str] = ()) -> Mapping[str, str]:
        """Watch exactly these from now on, and writes to `files` in them; returns what cannot be watched, and why."""
        ...

    def changes(self) -> AbstractAsyncContextManager[AsyncIterator[Changed]]:
        """What changes from `follow` on, until the block ends. One reader at a time."""
        ...


class _Gathering:
    """What both adapters share: changes are put together until somebody takes them."""

    def __init__(self, gather: Seconds) -> None:
        self._gather = gather
        self._folders: dict[str, None] = {}
        self._lost = False
        self._stirred = asyncio.Event()

    def _add(self, folder: str) -> None:
        self._folders[folder] = None
        self._stirred.set()

    def __aiter__(self) -> AsyncIterator[Changed]:
        return self

    async def __anext__(self) -> Changed:
        await self._stirred.wait()
        await asyncio.sleep(self._gather)
        self._stirred.clear()
        changed = Changed(tuple(sorted(self._folders)), self._lost)
        self._folders, self._lost = {}, False
        return changed


class MemoryWatch(_Gathering):
    """For hosts that are no directory: silent, unless somebody says `stir`."""

    def __init__(self, *, gather: Seconds = GATHER) -> None:
        super().__init__(gather)
        self._watched: frozenset[str] = frozenset()

    def follow(self, folders: Collection[str], files: Collection[str] = ()) -> Mapping[str, str]:
        """Everything can be watched, up to the cap."""
        del files
        kept = sorted(folders)
        self._watched = frozenset(kept[:MOST_FOLDERS])
        return dict.fromkeys(kept[MOST_FOLDERS:], _too_many())

    def stir(self, folder: str, *, lost: bool = False) -> None:
        """Something came or went in a directory."""
        if folder in self._watched or lost:
            self._lost |= lost
            self._add(folder)

    @asynccontextmanager
    async def changes(self) -> AsyncIterator[AsyncIterator[Changed]]:
        """See FolderWatch."""
        yield self


class InotifyWatch(_Gathering):
    """The kernel tells. Without inotify (none left, or another system) nothing is ever told, and `follow` says so."""

    def __init__(self, host: RealHost, *, gather: Seconds = GATHER) -> None:
        super().__init__(gather)
        self._host = host
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._handle = self._libc.inotify_init1(_OPEN)
        self._why = "" if self._handle >= 0 else str(port_error("watch", "/", _last_error()))
        self._files: frozenset[str] = frozenset()
        self._numbers: dict[str, list[int]] = {}  # directory -> its watch, and those of its files
        self._names: dict[int, str] = {}

    def follow(self, folders: Collection[str], files: Collection[str] = ()) -> Mapping[str, str]:
        """See FolderWatch; O(what is new and what is gone)."""
        wanted = sorted(folders)
        refused = dict.fromkeys(wanted[MOST_FOLDERS:], _too_many())
        wanted = wanted[:MOST_FOLDERS]
        if self._why:
            return refused | dict.fromkeys(wanted, self._why)
        is_other = self._files != frozenset(files)
        self._files = frozenset(files)
        for folder in sorted(self._numbers if is_other else self._numbers.keys() - set(wanted)):
            for number in self._numbers.pop(folder):
                del self._names[number]
                self._libc.inotify_rm_watch(self._handle, number)
        for folder in wanted:
            if folder not in self._numbers:
                self._watch(folder, refused)
        return refused

    @asynccontextmanager
    async def changes(self) -> AsyncIterator[AsyncIterator[Changed]]:
        """See FolderWatch; the handle is closed with the block."""
        if self._why:
            yield self
            return
        loop = asyncio.get_running_loop()
        loop.add_reader(self._handle, self._read)
        try:
            yield self
        finally:
            loop.remove_reader(self._handle)
            os.close(self._handle)
            self._handle, self._why = -1, "the watch has ended"

    def _watch(self, folder: str, refused: dict[str, str]) -> None:
        mask = _CREATE | _DELETE | _MOVED | _ONLY_FOLDER | (_MODIFY if self._files else 0)
        try:
            place = self._host.place(folder)
            numbers = [self._add_watch(place, mask)]
        except OSError as error:
            why = "no inotify watch left (fs.inotify.max_user_watches)" if error.errno == errno.ENOSPC else ""
            refused[folder] = why or str(port_error("watch", folder, error))
            return
        for file in sorted(self._files):
            with suppress(OSError):  # not every directory has every file
                numbers.append(self._add_watch(f"{place}/{file}", _MODIFY))
        self._numbers[folder] = numbers
        self._names.update(dict.fromkeys(numbers, folder))

    def _add_watch(self, place: str, mask: int) -> int:
        number: int = self._libc.inotify_add_watch(self._handle, os.fsencode(place), mask)
        if number < 0:
            raise _last_error()
        return number

    def _read(self) -> None:
        """Everything the kernel has to tell; called when there is something."""
        try:
            told = os.read(self._handle, CHUNK)
        except BlockingIOError:
            return
        for number, mask, name in _events(told):
            if mask & _OVERFLOW:
                self._lost = True
                self._stirred.set()
            elif mask & _IGNORED:
                self._forget(number)
            elif number in self._names and (mask & _IS_FOLDER or (mask & _MODIFY and name in ("", *self._files))):
                self._add(self._names[number])

    def _forget(self, number: int) -> None:
        """The kernel has ended this watch: the directory is gone, or the file."""
        folder = self._names.pop(number, "")
        if folder and self._numbers[folder][0] == number:
            for other in self._numbers.pop(folder)[1:]:
                self._names.pop(other, None)


def open_watch(host: HostFs) -> FolderWatch:
    """The watch of a host: the kernel's where it is a directory of this machine."""
    return InotifyWatch(host) if isinstance(host, RealHost) else MemoryWatch()


def _events(told: bytes) -> Iterator[tuple[int, int, str]]:
    at = 0
    while at + _EVENT.size <= len(told):
        number, mask, _, length = _EVENT.unpack_from(told, at)
        at += _EVENT.size
        yield number, mask, os.fsdecode(told[at : at + length].rstrip(b"\0"))
        at += length


def _last_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


def _too_many() -> str:
    return f"more than {MOST_FOLDERS} directories"
