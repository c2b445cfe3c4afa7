"""A host that lives in memory: for tests, and the ground a virtual node stands on.

The tree is nested dicts. A file is a text, a function computing its text at the moment it is read, or a `Knob`
that also takes writes; a `Link` points elsewhere. Below a host's own tree may lie a shared, never written one
(a machine snapshot): own entries win, listings merge. Looking up costs O(path length), listing O(children); where a
computed file was found is remembered until the tree changes, because a node is read again and again.

A file that vanishes while it is read is a function that raises Vanished.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, Union

from neap.common.errors import PortError, Vanished
from neap.common.host.port import OneByOne, Refused, Space, Spaces, Unsupported

WriteHook: TypeAlias = Callable[[str, str], str | None]  # (path, text) -> what the file holds then; None: text
LINKS_LIMIT: Final = 40  # as the kernel's
REMEMBERED: Final = 1 << 16  # computed files whose place is known, before they are forgotten together


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link; the target may be relative."""

    target: str


@dataclass(frozen=True, slots=True)
class Knob:
    """A file with a meaning: `write` takes the whole text or raises Refused."""

    read: Callable[[], str]
    write: Callable[[str], None]


Entry: TypeAlias = Union[str, Callable[[], str], Knob, Link, "Folder"]
Folder: TypeAlias = dict[str, Entry]
Trail: TypeAlias = list[str]  # canonical names from the root down
Place: TypeAlias = tuple[Folder | None, Folder | None]  # the same directory in the own and in the shared tree


class MemoryHost(OneByOne):
    """A HostFs over nested dicts; see module docstring."""

    def __init__(
        self, files: Mapping[str, str | Callable[[], str]] | None = None, *, shared: Folder | None = None
    ) -> None:
        self._own: Folder = {}
        self._shared = shared
        self._hooks: dict[str, WriteHook] = {}
        self.spaces: dict[str, Space] = {}  # by path; others say nothing
        self._computed: dict[str, Callable[[], str]] = {}  # by path as asked; void when the tree changes
        for path, content in (files or {}).items():
            self.put(path, content)

    # -- building ----------------------------------------------------------------------------------------------------

    def put(self, path: str, entry: Entry) -> None:
        """Place a file, link or whole folder, with the directories above it."""
        self._computed.clear()
        *above, name = _names(path)
        folder = self._own
        for step in above:
            below = folder.setdefault(step, {})
            if not isinstance(below, dict):
                raise PortError(f"put {path}: {step} is no directory")
            folder = below
        folder[name] = entry

    def remove(self, path: str) -> None:
        """Take a file or a directory with all below it away; the shared tree is left as it is."""
        self._computed.clear()
        *above, name = _names(path)
        folder: Entry | None = self._own
        for step in above:
            folder = folder.get(step) if isinstance(folder, dict) else None
        if not isinstance(folder, dict) or folder.pop(name, None) is None:
            raise Vanished(f"remove {path}: no such file or directory")

    def on_write(self, suffix: str, hook: WriteHook) -> None:
        """Call `hook` before a write to any path ending in `suffix`; it may raise Refused or replace the text."""
        self._hooks[suffix] = hook

    # -- HostFs ------------------------------------------------------------------------------------------------------

    def read(self, path: str) -> str:
        """The whole file."""
        compute = self._computed.get(path)
        if compute is not None:
            return compute()
        entry = self._find(path)
        if isinstance(entry, str):
            return entry
        if isinstance(entry, Knob):
            return self._found(path, entry.read)()
        if callable(entry):
            return self._found(path, entry)()
        if entry is None:
            raise Vanished(f"read {path}: no such file (ENOENT)")
        raise PortError(f"read {path}: is a directory (EISDIR)")

    def read_all(self, paths: Sequence[str]) -> list[str | None]:
        """Many files, None for each that cannot be read."""
        found: list[str | None] = []
        for path in paths:
            compute = self._computed.get(path)  # as `read` does; a node's report is a hundred of these
            try:
                found.append(self.read(path) if compute is None else compute())
            except PortError:
                found.append(None)
        return found

    def space_all(self, paths: Sequence[str]) -> Spaces:
        """What was said of these paths."""
        return [self.spaces.get(path) for path in paths]

    def write(self, path: str, text: str) -> None:
        """Replace a text, or turn a knob."""
        entry = self._find(path)
        if entry is None:
            above = self._find(path.rpartition("/")[0] or "/")
            if isinstance(above, dict):
                raise Unsupported(f"write {path}: the directory has no such file (ENOENT)")
            raise Vanished(f"write {path}: no such directory (ENOENT)")
        for suffix, hook in self._hooks.items():
            if path.endswith(suffix):
                text = replaced if (replaced := hook(path, text)) is not None else text
        if isinstance(entry, Knob):
            entry.write(text)
        elif isinstance(entry, str):
            self.put(self._canonical(path), text)
        else:
            raise Refused(f"write {path}: read-only (EINVAL)")

    def make_folder(self, path: str) -> None:
        """An empty directory."""
        there = self._find(path)
        if there is None:
            if not isinstance(self._find(path.rpartition("/")[0] or "/"), dict):
                raise Vanished(f"make {path}: no such directory (ENOENT)")
            self.put(self._canonical(path), {})
        elif not isinstance(there, dict):
            raise Refused(f"make {path}: is a file (EEXIST)")

    def remove_folder(self, path: str) -> None:
        """A directory with the files in it, as the kernel takes its own away."""
        there = self._find(path)
        if not isinstance(there, dict):
            raise Vanished(f"remove {path}: no such directory (ENOENT)")
        if any(isinstance(entry, dict) for entry in there.values()):
            raise Refused(f"remove {path}: there are directories below (ENOTEMPTY)")
        self.remove(self._canonical(path))

    def list(self, path: str) -> list[str]:
        """Sorted names in a directory."""
        place = self._straight(path) or self._walk(path)[0]
        if place is None:
            raise Vanished(f"list {path}: no such directory (ENOENT)")
        own, shared = place
        return sorted({*(own or ()), *shared}) if shared else sorted(own or ())

    def exists(self, path: str) -> bool:
        """Whether the path, links followed, is there."""
        return self._find(path) is not None

    def link(self, path: str) -> str | None:
        """The target of a symbolic link as an absolute path."""
        above, name = path.rstrip("/").rpartition("/")[::2]
        place, trail = self._walk(above or "/")
        entry = None if place is None else _child(place, name)
        if not isinstance(entry, Link):
            return None
        return _joined(trail, entry.target)

    # -- looking up --------------------------------------------------------------------------------------------------

    def _find(self, path: str) -> Entry | None:
        """The entry at `path`, links followed. The common way: no links, no dots, in one of the two trees."""
        names = path.split("/")
        for tree in (self._own, self._shared):
            entry: Entry | None = tree
            for name in names:
                if name:
                    if type(entry) is not dict:
                        break
                    entry = entry.get(name)
            else:
                if entry is not None and not isinstance(entry, Link):
                    return entry
            if isinstance(entry, Link):
                break
        place, trail = self._walk(path.rpartition("/")[0])
        if place is None:
            return None
        return self._target(place, trail, path.rpartition("/")[2])

    def _found(self, path: str, compute: Callable[[], str]) -> Callable[[], str]:
        if len(self._computed) >= REMEMBERED:
            self._computed.clear()
        self._computed[path] = compute
        return compute

    def _straight(self, path: str) -> Place | None:
        """The directory at `path` if there is neither a link nor a dot on the way."""
        own: Folder | None = self._own
        shared = self._shared
        for name in path.split("/"):
            if name:
                mine, theirs = own.get(name) if own else None, shared.get(name) if shared else None
                if not isinstance(theirs if mine is None else mine, dict):
                    return None
                own, shared = mine if isinstance(mine, dict) else None, theirs if isinstance(theirs, dict) else None
        return own, shared

    def _target(self, place: Place, trail: Trail, name: str) -> Entry | None:
        """The entry `name` in a directory, links followed to their end."""
        for _ in range(LINKS_LIMIT):
            if name in ("", ".", ".."):
                return place[0] if place[0] is not None else place[1]
            entry = _child(place, name)
            if not isinstance(entry, Link):
                return entry
            target = _joined(trail, entry.target)
            above, _, name = target.rpartition("/")
            found, trail = self._walk(above or "/")
            if found is None:
                return None
            place = found
        return None

    def _walk(self, path: str) -> tuple[Place | None, Trail]:
        """The directory at `path` in both trees and its canonical names; `..` stops at the root."""
        pending = [name for name in reversed(path.split("/")) if name]
        places: list[Place] = [(self._own, self._shared)]
        trail: Trail = []
        links = 0
        while pending:
            name = pending.pop()
            if name == "..":
                if trail:
                    trail.pop()
                    places.pop()
                continue
            if name == ".":
                continue
            own, shared = places[-1]
            mine, theirs = own.get(name) if own else None, shared.get(name) if shared else None
            entry = mine if mine is not None else theirs
            if isinstance(entry, Link) and (links := links + 1) <= LINKS_LIMIT:
                if entry.target.startswith("/"):
                    del places[1:], trail[:]
                pending.extend(step for step in reversed(entry.target.split("/")) if step)
            elif isinstance(entry, dict):
                places.append((mine if isinstance(mine, dict) else None, theirs if isinstance(theirs, dict) else None))
                trail.append(name)
            else:
                return None, trail
        return places[-1], trail

    def _canonical(self, path: str) -> str:
        """`path` of an existing file with every link resolved."""
        for _ in range(LINKS_LIMIT):
            target = self.link(path)
            if target is None:
                break
            path = target
        above, _, name = path.rpartition("/")
        return "/".join(["", *self._walk(above or "/")[1], name])


def _names(path: str) -> list[str]:
    names = [name for name in path.split("/") if name and name != "."]
    if not names or ".." in names:
        raise PortError(f"{path!r} is no plain absolute path")
    return names


def _child(place: Place, name: str) -> Entry | None:
    own, shared = place
    mine = own.get(name) if own else None
    return mine if mine is not None else (shared.get(name) if shared else None)


def _joined(trail: Trail, target: str) -> str:
    """`target` seen from the directory `trail`, as an absolute path without dots."""
    names: list[str] = [] if target.startswith("/") else list(trail)
    for step in target.split("/"):
        if step == "..":
            del names[-1:]
        elif step and step != ".":
            names.append(step)
    return "/" + "/".join(names)
