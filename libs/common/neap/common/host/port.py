"""The HostFs port: small kernel files, read and written whole.

Paths are absolute as on the host ("/sys/fs/cgroup/kubepods.slice"); an adapter roots them and never leaves its
root. Calls are synchronous: kernel files answer at once, and a virtual host behaves likewise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from neap.common.errors import PortError


class Refused(PortError):
    """The kernel did not take the value (EINVAL, EBUSY, ENOSPC ...)."""


class Unsupported(PortError):
    """The kernel does not offer this file."""


class HostFs(Protocol):
    """See module docstring."""

    def read(self, path: str) -> str:
        """The whole file as text (undecodable bytes replaced).

        Raises:
            Vanished: no such file, or it went away while it was read.
            PortError: any other error, with path and errno name.
        """
        ...

    def read_all(self, paths: Sequence[str]) -> list[str | None]:
        """Many files in one call, None for each that cannot be read; order as asked."""
        ...

    def write(self, path: str, text: str) -> None:
        """Write the whole value at once.

        Raises:
            Vanished: the directory is gone. Unsupported: it is there, the file is not. Refused: the kernel said no.
        """
        ...

    def list(self, path: str) -> list[str]:
        """Sorted names in a directory.

        Raises:
            Vanished: no such directory.
        """
        ...

    def exists(self, path: str) -> bool:
        """Whether the path is there now."""
        ...

    def link(self, path: str) -> str | None:
        """The target of a symbolic link as an absolute host path, or None if it is none."""
        ...
