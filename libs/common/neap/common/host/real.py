"""A real directory tree as a host: this machine ("/"), or a tree captured from another one.

Nothing outside the root is ever opened: `..` stops at the root, links are resolved below it (an absolute link of
a captured tree means the same tree), and the last step is opened without following. Where a directory lies is
remembered, because kernels do not turn directories into links, and looking at each step of each path costs three times
what the reading does (measured). Errors of the kernel become ours here, once: gone -> Vanished, no right -> Denied,
value not taken -> Refused, file not offered -> Unsupported.
"""
# One system call per line is what this file is for, so no pathlib:
# ruff: noqa: PTH102, PTH106, PTH110, PTH112, PTH114, PTH115, PTH208

from __future__ import annotations

import errno
import os
import posixpath
from collections.abc import Sequence
from typing import Final

from neap.common.errors import Denied, PortError, Vanished
from neap.common.host.port import OneByOne, Refused, Space, Spaces, Unsupported

CHUNK: Final = 1 << 17
LARGEST_FILE: Final = 1 << 24  # a kernel file is never longer; keeps a device file from eating memory
LINKS_LIMIT: Final = 40  # as the kernel's
FOLDERS_REMEMBERED: Final = 8192

_GONE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.ESRCH, errno.ENXIO})
_FORBIDDEN: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_NOT_OFFERED: Final = frozenset({errno.EOPNOTSUPP, errno.ENOSYS})
_NOT_TAKEN: Final = frozenset(
    {
        errno.EINVAL,
        errno.ERANGE,
        errno.EBUSY,
        errno.ENOSPC,
        errno.EAGAIN,
        errno.E2BIG,
        errno.EOVERFLOW,
        errno.EDOM,
        errno.EEXIST,
        errno.ENOTEMPTY,
    }
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
    if act in {"write", "make", "remove"} and error.errno in _NOT_TAKEN:
        return Refused(said)
    return PortError(said)


class RealHost(OneByOne):
    """A HostFs over a directory; see module docstring."""

    def __init__(self, root: str = "/") -> None:
        self._root = "" if (real := os.path.realpath(root)) == "/" else real
        self._folders: dict[str, str] = {}  # directory as asked for -> where it lies, links resolved

    def read(self, path: str) -> str:
        """The whole file: one open, reads until the end."""
        try:
            handle = self._open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
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
            handle = self._open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
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

    def make_folder(self, path: str) -> None:
        """One directory."""
        try:
            os.mkdir(self.place(path))
        except OSError as error:
            if error.errno != errno.EEXIST or not os.path.isdir(self.place(path)):
                raise port_error("make", path, error) from None

    def remove_folder(self, path: str) -> None:
        """One directory that has none below."""
        try:
            os.rmdir(self.place(path))
        except OSError as error:
            raise port_error("remove", path, error) from None

    def list(self, path: str) -> list[str]:
        """Sorted names in a directory."""
        try:
            handle = self._open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                return sorted(os.listdir(handle))
            finally:
                os.close(handle)
        except OSError as error:
            raise port_error("list", path, error) from None

    def exists(self, path: str) -> bool:
        """Whether the path, links followed, is there."""
        try:
            return os.path.lexists(self.place(path)) if self._root else os.path.exists(path)
        except OSError:
            return False

    def link(self, path: str) -> str | None:
        """The target of a symbolic link as an absolute host path."""
        above, name = posixpath.split(path.rstrip("/"))
        try:
            folder = self.place(above)[len(self._root) :] if self._root else os.path.realpath(above)
            target = os.readlink(f"{self._root}{folder}/{name}")
        except OSError:
            return None
        return posixpath.normpath("/" + posixpath.join(folder.lstrip("/"), target).lstrip("/"))

    def space_all(self, paths: Sequence[str]) -> Spaces:
        """The file systems of many paths."""
        return [self._space(path) for path in paths]

    def _space(self, path: str) -> Space | None:
        try:
            found = os.statvfs(self.place(path))
        except OSError:
            return None
        free, size = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
        kept = (found.f_bfree - found.f_bavail) * found.f_frsize  # for root alone
        return Space(found.f_fsid, size - kept, free, found.f_files, found.f_favail)

    def _open(self, path: str, flags: int) -> int:
        """A handle of what lies at `path`; the way there is walked only where it is not known, or has changed."""
        if not self._root:
            return os.open(path, flags)
        folder, _, name = path.rpartition("/")
        place = self._folders.get(folder)
        if place is not None and name not in ("", ".", ".."):
            try:
                return os.open(f"{place}/{name}", flags | os.O_NOFOLLOW)
            except OSError as error:
                is_link = error.errno == errno.ELOOP or os.path.islink(f"{place}/{name}")
                if not is_link and place == self._root + folder:
                    raise
        handle = os.open(self.place(path), flags | os.O_NOFOLLOW)
        if len(self._folders) >= FOLDERS_REMEMBERED:
            self._folders.clear()
        self._folders[folder] = self.place(folder)
        return handle

    def place(self, path: str) -> str:
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
