"""The restore journal: what every knob showed before it was first written, kept where kill -9 cannot reach it.

Written whole and atomically (temporary file, rename), before the writes it can take back. A journal of another boot
is void: its cgroups are gone and the kubelet made new ones; so it must outlive the process but not the machine, and
is not synced to the disk. One that cannot be read is set aside.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import msgspec

from neap.common.errors import PortError
from neap.enforcer.core.instruction import Originals
from neap.enforcer.core.knob import Site


class RestoreJournal(Protocol):
    """See module docstring."""

    def load(self) -> Originals:
        """What is still owed to the host."""
        ...

    def save(self, originals: Originals) -> None:
        """Keep exactly these.

        Raises:
            PortError: they could not be stored; nothing may be written then.
        """
        ...


class MemoryJournal:
    """For nodes that vanish with the process."""

    def __init__(self) -> None:
        self._originals: Originals = {}

    def load(self) -> Originals:
        """What was saved last."""
        return self._originals

    def save(self, originals: Originals) -> None:
        """Keep exactly these."""
        self._originals = dict(originals)


class _Page(msgspec.Struct, frozen=True):
    """The file's content; JSON, so that a person can put a node back by hand."""

    boot: str
    originals: tuple[tuple[str, str, str], ...]  # cgroup, file, text


class FileJournal:
    """One file per node."""

    def __init__(self, folder: str, node: str, *, boot: str) -> None:
        self._path = Path(folder) / f"{node or 'node'}.restore.json"
        self._boot = boot
        self._saved: Originals | None = None

    def load(self) -> Originals:
        """What is still owed; nothing when there is no file, one of another boot, or an unreadable one."""
        try:
            page = msgspec.json.decode(self._path.read_bytes(), type=_Page)
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError) as error:
            self._set_aside(error)
            return {}
        if page.boot != self._boot:
            return {}
        self._saved = {Site(cgroup, file): text for cgroup, file, text in page.originals}
        return self._saved

    def save(self, originals: Originals) -> None:
        """Keep exactly these; no write at all when they are kept already."""
        if originals == self._saved:
            return
        page = _Page(self._boot, tuple((*site, text) for site, text in sorted(originals.items())))
        fresh = self._path.with_suffix(".fresh")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_bytes(msgspec.json.format(msgspec.json.encode(page), indent=1))
            fresh.replace(self._path)
        except OSError as error:
            raise PortError(f"restore journal {self._path}: {error.strerror}; nothing is written without it") from None
        self._saved = dict(originals)

    def _set_aside(self, error: Exception) -> None:
        """An unreadable journal is kept for a person, and in nobody's way.

        Raises:
            PortError: it cannot even be moved.
        """
        try:
            self._path.replace(self._path.with_suffix(".unreadable"))
        except OSError:
            raise PortError(f"restore journal {self._path}: {error}") from None


def open_journal(folder: str, node: str, *, boot: str) -> RestoreJournal:
    """The journal of a node; in memory when no folder is given."""
    return FileJournal(folder, node, boot=boot) if folder else MemoryJournal()
