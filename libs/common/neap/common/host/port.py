"""The HostFs port: small kernel files, read and written whole.

Paths are absolute as on the host ("/sys/fs/cgroup/kubepods.slice"); an adapter roots them and never leaves its
root. Calls are synchronous: kernel files answer at once, and a virtual host behaves likewise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias, TypeVar

from neap.common.errors import PortError, Vanished

T = TypeVar("T")
Texts: TypeAlias = list[str | None]
Names: TypeAlias = list[str]
Listings: TypeAlias = list[list[str] | None]
Targets: TypeAlias = list[str | None]
Outcomes: TypeAlias = list[PortError | None]
Spaces: TypeAlias = "list[Space | None]"


class Refused(PortError):
    """The kernel did not take the value (EINVAL, EBUSY, ENOSPC ...)."""


class Unsupported(PortError):
    """The kernel does not offer this file."""


@dataclass(frozen=True, slots=True)
class Changed:
    """What a folder watch tells: directories in which something came, went or was written; see watch.py."""

    folders: tuple[str, ...]
    lost: bool = False  # and more, of which nothing is known: look everywhere


class Space(NamedTuple):
    """How full the file system is that a path lies in: what anybody but root can use, in bytes and inodes."""

    device: int  # which file system it is
    size: int
    free: int
    inodes: int  # 0: it makes them as it needs them
    inodes_free: int


class HostFs(Protocol):
    """See module docstring."""

    @property
    def waits(self) -> bool:
        """Whether a call may wait for somebody else, so that a loop with more to do asks from a thread (see turn)."""
        ...

    def read(self, path: str) -> str:
        """The whole file as text (undecodable bytes replaced).

        Raises:
            Vanished: no such file, or it went away while it was read.
            PortError: any other error, with path and errno name.
        """
        ...

    def read_all(self, paths: Sequence[str]) -> Texts:
        """Many files in one call, None for each that cannot be read; order as asked.

        Raises:
            Unavailable: the host as a whole does not answer.
        """
        ...

    def write(self, path: str, text: str) -> None:
        """Write the whole value at once.

        Raises:
            Vanished: the directory is gone. Unsupported: it is there, the file is not. Refused: the kernel said no.
        """
        ...

    def make_folder(self, path: str) -> None:
        """Make one directory; one that is there already is fine (the kernel makes its own files in it).

        Raises:
            Vanished: the directory above is gone. Refused: the kernel has no room for another.
        """
        ...

    def remove_folder(self, path: str) -> None:
        """Take one directory away, with the kernel's own files in it.

        Raises:
            Vanished: it is gone already. Refused: there are directories below, or it is in use.
        """
        ...

    def list(self, path: str) -> Names:
        """Sorted names in a directory.

        Raises:
            Vanished: no such directory.
        """
        ...

    def list_all(self, paths: Sequence[str]) -> Listings:
        """Many directories in one call, None for each that is not there; order as asked."""
        ...

    def write_all(self, writes: Sequence[tuple[str, str]], *, stop: bool = False) -> Outcomes:
        """Many writes (path, text) in one call and in order: None for each that was done, else why not.

        With `stop` the first that is refused is the last that is tried, and ends the list.
        """
        ...

    def exists(self, path: str) -> bool:
        """Whether the path is there now."""
        ...

    def link(self, path: str) -> str | None:
        """The target of a symbolic link as an absolute host path, or None if it is none."""
        ...

    def link_all(self, paths: Sequence[str]) -> Targets:
        """The targets of many symbolic links in one call, None for each that is none; order as asked."""
        ...

    def space_all(self, paths: Sequence[str]) -> Spaces:
        """The file systems of many paths in one call, None for each that is not there or does not say; as asked."""
        ...


class OneByOne:
    """The calls for many, made of the calls for one; for adapters where a call costs nothing."""

    waits = False

    def read(self, path: str) -> str:
        """See HostFs."""
        raise NotImplementedError

    def write(self, path: str, text: str) -> None:
        """See HostFs."""
        raise NotImplementedError

    def list(self, path: str) -> Names:
        """See HostFs."""
        raise NotImplementedError

    def link(self, path: str) -> str | None:
        """See HostFs."""
        raise NotImplementedError

    def space_all(self, paths: Sequence[str]) -> Spaces:
        """See HostFs; a host that has no file systems to speak of."""
        return [None for _ in paths]

    def link_all(self, paths: Sequence[str]) -> Targets:
        """See HostFs."""
        return [_or_none(self.link, path) for path in paths]

    def read_all(self, paths: Sequence[str]) -> Texts:
        """See HostFs."""
        return [_or_none(self.read, path) for path in paths]

    def list_all(self, paths: Sequence[str]) -> Listings:
        """See HostFs."""
        return [_or_none(self.list, path) for path in paths]

    def write_all(self, writes: Sequence[tuple[str, str]], *, stop: bool = False) -> Outcomes:
        """See HostFs."""
        outcomes: Outcomes = []
        for path, text in writes:
            try:
                self.write(path, text)
            except (Vanished, Unsupported) as error:
                outcomes.append(error)
            except PortError as error:
                outcomes.append(error)
                if stop:
                    break
            else:
                outcomes.append(None)
        return outcomes


def _or_none(act: Callable[[str], T], path: str) -> T | None:
    try:
        return act(path)
    except PortError:
        return None
