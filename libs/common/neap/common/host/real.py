"""A real directory tree as a host: this machine ("/"), or a tree captured from another one.

Nothing outside the root is ever opened: `..` stops at the root, links are resolved below it (an absolute link of
a captured tree means the same tree), and the last step is opened without following. Errors of the kernel become
ours here, once: gone -> Vanished, no right -> Denied, value not taken -> Refused, file not offered -> Unsupported.
"""
# One system call per line is what this file is for, so no pathlib:
# ruff: noqa: PTH110, PTH114, PTH115, PTH208

from __future__ import annotations

import errno
import os
import posixpath
from typing import Final

from neap.common.errors import Denied, PortError, Vanished
from neap.common.host.port import OneByOne, Refused, Unsupported

CHUNK: Final = 1 << 17
LARGEST_FILE: Final = 1 << 24  # a kernel file is never longer; keeps a device file from eating memory
LINKS_LIMIT: Final = 40  # as the kernel's

_GONE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.ESRCH, errno.ENXIO})
_FORBIDDEN: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_NOT_OFFERED: Final = frozenset({errno.EOPNOTSUPP, errno.ENOSYS})
_NOT_TAKEN: Final = frozenset(
    {errno.EINVAL, errno.ERANGE, errno.EBUSY, errno.ENOSPC, errno.EAGAIN, errno.E2BIG, errno.EOVERFLOW, errno.EDOM}
)


def port_error(act: str, path: str, error: OSError) -> PortError:
    """The kernel's errno as one of our errors, naming the act, the path and the errno."""
    name = errno.errorcode.get(error.errno or 0, str(error.errno))
    said = f"{act} {path}: {error.strerror} ({name})"
    if error.errno in _GONE:
        return Vanished(said)
    if error.errno in _FORBIDDEN:
        return Denied(said)
    if error.errno in _NOT_OFFERED:
        return Unsupported(said)
    if act == "write" and error.errno in _NOT_TAKEN:
        return Refused(said)
    return PortError(said)


class RealHost(OneByOne):
    """A HostFs over a directory; see module docstring."""

    def __init__(self, root: str = "/") -> None:
        self._root = "" if (real := os.path.realpath(root)) == "/" else real

    def read(self, path: str) -> str:
        """The whole file: one open, reads until the end."""
        try:
            handle = os.open(self._place(path), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | self._last_step)
            try:
                chunks = []
                size = 0
                while chunk := os.read(handle, CHUNK):
                    chunks.append(chunk)
                    size += len(chunk)
                    if size > LARGEST_FILE:
                        raise PortError(f"read {path}: longer than {LARGEST_FILE} bytes")
            finally:
                os.close(handle)
        except OSError as error:
            raise port_error("read", path, error) from None
        return b"".join(chunks).decode(errors="replace")

    def write(self, path: str, text: str) -> None:
        """The whole value in one write; never creates a file."""
        content = text.encode()
        try:
            handle = os.open(self._place(path), os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC | self._last_step)
            try:
                written = os.write(handle, content)
            finally:
                os.close(handle)
        except OSError as error:
            if error.errno == errno.ENOENT and self.exists(posixpath.dirname(path)):
                raise Unsupported(f"write {path}: the directory has no such file (ENOENT)") from None
            raise port_error("write", path, error) from None
        if written != len(content):
            raise Refused(f"write {path}: the kernel took {written} of {len(content)} bytes")

    def list(self, path: str) -> list[str]:
        """Sorted names in a directory."""
        try:
            return sorted(os.listdir(self._place(path)))
        except OSError as error:
            raise port_error("list", path, error) from None

    def exists(self, path: str) -> bool:
        """Whether the path, links followed, is there."""
        try:
            return os.path.lexists(self._place(path)) if self._root else os.path.exists(path)
        except OSError:
            return False

    def link(self, path: str) -> str | None:
        """The target of a symbolic link as an absolute host path."""
        above, name = posixpath.split(path.rstrip("/"))
        try:
            folder = self._place(above)[len(self._root) :] if self._root else os.path.realpath(above)
            target = os.readlink(f"{self._root}{folder}/{name}")
        except OSError:
            return None
        return posixpath.normpath("/" + posixpath.join(folder.lstrip("/"), target).lstrip("/"))

    @property
    def _last_step(self) -> int:
        return os.O_NOFOLLOW if self._root else 0

    def _place(self, path: str) -> str:
        """Where `path` lies on this machine, with every link resolved below the root.

        Raises:
            OSError: a loop of links.
        """
        if not self._root:
            return path
        pending = [name for name in reversed(path.split("/")) if name]
        trail: list[str] = []
        links = 0
        while pending:
            name = pending.pop()
            if name == "..":
                del trail[-1:]
            elif name != ".":
                here = "/".join((self._root, *trail, name))
                if not os.path.islink(here):
                    trail.append(name)
                    continue
                if (links := links + 1) > LINKS_LIMIT:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                target = os.readlink(here)
                if target.startswith("/"):
                    del trail[:]
                pending.extend(step for step in reversed(target.split("/")) if step)
        return "/".join((self._root, *trail))
