"""A machine captured from the real world, as the ground of virtual hosts.

An archive holds what sysfs and procfs showed on a machine: `/sys/devices/system/{cpu,node}`, often PCI, some of
`/proc`, below one top folder. It is read once into a tree that all nodes of the same machine share and nobody
writes. What it says about CPUs, NUMA nodes and memory is read here *for the model only*; the reporter does its own
reading and is judged against the files, contradictions included.

Usable CPUs: named by `cpu/online`, with a directory whose `online` file, if any, is not 0. Memory: `/proc/meminfo`,
or else the sum over the nodes. Unknown CPUs of a NUMA node: those of its cpulist, or cpumap, or cpuN links.
"""

from __future__ import annotations

import bz2
import lzma
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Final, cast

from neap.common.cpuset import parse_cpuset
from neap.common.errors import InputError
from neap.common.host.memory import Folder, Link, MemoryHost
from neap.common.units import KIB, Bytes

LARGEST_ARCHIVE: Final = 1 << 28  # bytes unpacked; what is longer is cut and then no archive
_OPEN: Final[Mapping[str, Callable[[Path], IO[bytes]]]] = {".bz2": bz2.open, ".xz": lzma.open}
# A v2 host has none of these; what a capture says there is of the capturing shell, not of the machine.
LEFT_OUT: Final = ("dev", "run", "cpuid", "proc/self", "proc/mounts", "proc/stat", "sys/fs/cgroup")

BLOCK: Final = 512
FILE, LINK, DIRECTORY = (b"0", b"\0"), b"2", b"5"  # types of members
LONG_PATH, LONG_TARGET = b"L", b"K"  # the next member's, too long for its header
LONG: Final = (LONG_PATH, LONG_TARGET)
PAX: Final = (b"x", b"g")  # not used by any capture

_CPUS: Final = "/sys/devices/system/cpu"
_NODES: Final = "/sys/devices/system/node"
_MEM_TOTAL: Final = re.compile(r"MemTotal:\s*(\d+) kB")
_CPU_NAME: Final = re.compile(r"cpu(\d+)")
_NODE_NAME: Final = re.compile(r"node(\d+)")


@dataclass(frozen=True)
class NumaShare:
    """One NUMA node as the model sees it: usable CPUs (may be none) and memory."""

    cpus: frozenset[int]
    memory: Bytes


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A machine: the shared tree and the model's reading of it."""

    name: str
    tree: Folder
    cpus: frozenset[int]  # usable
    present: frozenset[int]  # usable or offline
    numa: Mapping[int, NumaShare]
    memory: Bytes


@cache
def load_snapshot(path: str | Path) -> Snapshot:
    """Read an archive (.tar.bz2, .tar.xz); the same path gives the same object.

    Raises:
        InputError: no archive, absurdly large, or no usable CPU in it.
    """
    archive = Path(path)
    name = archive.name.partition(".tar")[0]
    try:
        unpacked = _OPEN[archive.suffix](archive).read(LARGEST_ARCHIVE)
        tree = _tree(unpacked)
    except (OSError, KeyError, ValueError, lzma.LZMAError, EOFError) as error:
        raise InputError(f"machine snapshot {archive.name}: {error}") from None
    for left_out in LEFT_OUT:
        _drop(tree, left_out.split("/"))
    return _understood(name, tree)


def load_snapshots(folder: str | Path, wanted: str = "") -> tuple[Snapshot, ...]:
    """Every archive of a folder, by name; or only the one that is called `wanted`."""
    found = sorted(path for path in Path(folder).iterdir() if ".tar." in path.name)
    found = [path for path in found if wanted in ("", path.name.partition(".tar")[0])]
    return tuple(load_snapshot(path) for path in found)


def _tree(unpacked: bytes) -> Folder:
    """Nested dicts of an archive's only top folder."""
    root: Folder = {}
    for path, kind, content in _members(unpacked):
        names = [name for name in path.split("/") if name not in ("", ".")]
        if not names or ".." in names:
            continue
        folder = root
        for step in names[:-1]:
            folder = cast("Folder", folder.setdefault(step, {}))
        if kind == DIRECTORY:
            folder.setdefault(names[-1], {})
        elif kind == LINK:
            folder[names[-1]] = Link(content)
        elif kind in FILE:
            folder[names[-1]] = content
    tops = [entry for entry in root.values() if isinstance(entry, dict)]
    if "sys" in root:
        return root
    if len(tops) != 1:
        raise ValueError("no single top folder")
    return tops[0]


def _members(archive: bytes) -> Iterator[tuple[str, bytes, str]]:
    """Path, type, and content (of a link: its target) of each member.

    Captures are ustar archives, some with GNU's long names. The standard library reads them six times as slowly: it
    wants to know of each of 65,000 files who owned it and when.
    Source: tar(5), "POSIX ustar Archives" and "GNU Tar Archives".
    """
    at, long = 0, dict[bytes, str]()
    while (header := archive[at : at + BLOCK]).strip(b"\0"):
        if header[257:262] != b"ustar" or header[156:157] in PAX:
            raise ValueError(f"no ustar header at byte {at}")
        size, kind = int(header[124:136].strip(b" \0") or b"0", 8), header[156:157]
        content = archive[at + BLOCK : at + BLOCK + size]
        if size < 0 or len(content) < size:
            raise ValueError(f"member at byte {at} of {size} bytes, archive of {len(archive)}")
        at += BLOCK + (size + BLOCK - 1) // BLOCK * BLOCK
        if kind in LONG:
            long[kind] = _until_nul(content)
            continue
        prefix = _until_nul(header[345:500]) if header[262:263] == b"\0" else ""
        path = long.get(LONG_PATH) or f"{prefix}/{_until_nul(header[:100])}"
        target = long.get(LONG_TARGET) or _until_nul(header[157:257]) if kind == LINK else ""
        yield path, kind, target if kind == LINK else content.decode(errors="replace")
        long.clear()


def _until_nul(field: bytes) -> str:
    return field.partition(b"\0")[0].decode(errors="replace")


def _drop(tree: Folder, names: list[str]) -> None:
    for step in names[:-1]:
        below = tree.get(step)
        if not isinstance(below, dict):
            return
        tree = below
    tree.pop(names[-1], None)


def _understood(name: str, tree: Folder) -> Snapshot:
    host = MemoryHost(shared=tree)
    cpus, present = _cpus(host)
    if not cpus:
        raise InputError(f"machine snapshot {name}: no usable CPU below {_CPUS}")
    numa = _numa(host, cpus)
    total = _MEM_TOTAL.search(_text(host, "/proc/meminfo"))
    memory = int(total[1]) * KIB if total else sum(share.memory for share in numa.values())
    if memory <= 0:
        raise InputError(f"machine snapshot {name}: no memory found in /proc/meminfo or below {_NODES}")
    return Snapshot(name, tree, cpus, present, numa, memory)


def _cpus(host: MemoryHost) -> tuple[frozenset[int], frozenset[int]]:
    """Usable and present CPUs."""
    present = frozenset(int(match[1]) for name in _names(host, _CPUS) if (match := _CPU_NAME.fullmatch(name)))
    online = present
    if listed := _text(host, f"{_CPUS}/online").strip(" \n\0"):
        online &= parse_cpuset(listed)
    return frozenset(cpu for cpu in online if _text(host, f"{_CPUS}/cpu{cpu}/online").strip(" \n\0") != "0"), present


def _numa(host: MemoryHost, usable: frozenset[int]) -> dict[int, NumaShare]:
    """NUMA nodes with memory or usable CPUs; nodes that all claim the same CPUs keep the model's memory only."""
    found: dict[int, NumaShare] = {}
    for name in _names(host, _NODES):
        match = _NODE_NAME.fullmatch(name)
        if match is None:
            continue
        total = _MEM_TOTAL.search(_text(host, f"{_NODES}/{name}/meminfo"))
        cpus = _node_cpus(host, f"{_NODES}/{name}") & usable
        if total or cpus:
            found[int(match[1])] = NumaShare(cpus, int(total[1]) * KIB if total else 0)
    return dict(sorted(found.items()))


def _node_cpus(host: MemoryHost, folder: str) -> frozenset[int]:
    if host.exists(f"{folder}/cpulist"):
        return parse_cpuset(host.read(f"{folder}/cpulist"))
    mask = int(_text(host, f"{folder}/cpumap").strip(" \n\0").replace(",", "") or "0", 16)
    if mask:
        return frozenset(cpu for cpu in range(mask.bit_length()) if mask >> cpu & 1)
    return frozenset(int(match[1]) for name in _names(host, folder) if (match := _CPU_NAME.fullmatch(name)))


def _text(host: MemoryHost, path: str) -> str:
    return host.read_all([path])[0] or ""


def _names(host: MemoryHost, path: str) -> list[str]:
    return host.list(path) if host.exists(path) else []
