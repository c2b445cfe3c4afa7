"""How full the file systems are in which pods write: the system's, the kubelet's, the container runtime's.

    size, free     = f_blocks - reserved for root, f_bavail, times f_frsize                     [bytes]
    inodes, inodes_free = f_files, f_favail; unknown where a file system makes them as it needs them

Paths that are not there are left out, and so is a second path into the same file system. Source: statvfs(3), df(1).
"""

from __future__ import annotations

from typing import Final

from neap.common.model.usage import FilesystemUsage
from neap.common.units import Seconds
from neap.reporter.core.collector import CALM, Collector, Fields, Scope, Values, always
from neap.reporter.core.space import SPACE, parse_space

PATHS: Final = ("/", "/var/lib/kubelet", "/var/lib/containerd", "/var/lib/docker", "/var/lib/containers")


def rate(_before: Values | None, now: Values, _seconds: Seconds) -> Fields:
    """As they are now."""
    found: dict[int, FilesystemUsage] = {}
    for path, numbers in zip(PATHS, now, strict=True):
        if not numbers or numbers[0] in found or numbers[1] <= 0:
            continue
        device, size, free, inodes, inodes_free = numbers
        found[device] = FilesystemUsage(
            path=path,
            size=size,
            free=free,
            inodes=inodes or None,
            inodes_free=inodes_free if inodes else None,
        )
    return {"filesystems": tuple(found.values())}


PLUGIN: Final = Collector(Scope.NODE, always(*((SPACE + path, parse_space) for path in PATHS)), rate, every=CALM)
