"""Traffic of every disk that is a device of its own; not of partitions, and of nothing stacked on other disks.

    read, write = Δsectors · 512 / Δt                         [bytes per second]
    busy        = min(1, Δ(ms with requests under way) / Δt)  [ratio 0..1]

Sectors are 512 bytes whatever the disk's own size. The milliseconds are kept in 32 bits and start again after 49
days. A disk that was pulled out is unknown until the next look for devices. One that is busy all the time may still take more: many serve requests
side by side.
Source: kernel documentation, admin-guide/iostats (fields 3, 7 and 10), ABI/stable/sysfs-block.
"""

from __future__ import annotations

from typing import Final

from neap.common.model.usage import DeviceUsage
from neap.common.units import MIB, Seconds
from neap.reporter.core.collector import Collector, Fields, Scope, Surroundings, Values, Wants, growth, per_second
from neap.reporter.core.text import WIDTH_32, counts

DISK_DIR: Final = "/sys/block"
SECTOR: Final = 512
MILLISECONDS: Final = 1e3
DEVICE_LIMIT: Final = 64
SLACK: Final = 2.0  # times the clock, which a wrapped counter may have grown at most

Counters = tuple[int, int, int]  # bytes read, bytes written, ms busy


def parse_diskstats(text: str) -> dict[str, Counters]:
    """Every block device listed."""
    found: dict[str, Counters] = {}
    for line in text.splitlines():
        words = line.split(None, 13)
        read, written, busy = counts((words[5], words[9], words[12]))
        found[words[2]] = (read * SECTOR, written * SECTOR, busy)
    return found


def disks(around: Surroundings) -> list[str]:
    """Names of whole disks that hang from a bus; the others (loop, dm, md, ram) have no `device`."""
    return [name for name in around.listed(DISK_DIR) if "device" in around.listed(f"{DISK_DIR}/{name}")]


def wants(around: Surroundings) -> Wants:
    """One file for all of them."""
    chosen = disks(around)[:DEVICE_LIMIT]

    def parse_disks(text: str) -> dict[str, Counters | None]:
        found = parse_diskstats(text)
        return {name: found.get(name) for name in chosen}

    return (("/proc/diskstats", parse_disks),)


def rate(before: Values | None, now: Values, seconds: Seconds) -> Fields:
    """Traffic since the reading before."""
    if now[0] is None:
        return {}
    earlier: dict[str, Counters | None] = (before[0] if before is not None else None) or {}
    return {"disks": tuple(_usage(name, earlier.get(name), is_now, seconds) for name, is_now in now[0].items())}


def _usage(name: str, was: Counters | None, now: Counters | None, seconds: Seconds) -> DeviceUsage:
    if was is None or now is None:
        return DeviceUsage(name=name)
    busy = growth(was[2], now[2], wrap=WIDTH_32, most=seconds * MILLISECONDS * SLACK)
    return DeviceUsage(
        name=name,
        read=per_second(was[0], now[0], seconds),
        write=per_second(was[1], now[1], seconds),
        busy=None if busy is None else min(1.0, busy / MILLISECONDS / seconds),
    )


PLUGIN: Final = Collector(Scope.NODE, wants, rate, lists=(DISK_DIR, f"{DISK_DIR}/*"), budget=MIB)
