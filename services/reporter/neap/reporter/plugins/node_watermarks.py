"""Free memory at which kswapd starts on a NUMA node.

    watermark_low = Σ over its zones with memory of low · page size            [bytes]
    page size     = MemTotal of the node / Σ managed pages of its zones        [bytes]

The kernel counts in pages and does not say how large they are; both numbers come from the same counter, so the
quotient is exactly 4, 16 or 64 KiB, and anything else makes the watermark unknown. Each zone wakes kswapd by itself,
so the sum is where a node gets there at the latest.
Source: kernel mm/vmstat.c (zoneinfo), Documentation/mm/physical_memory; mm/page_alloc.c (managed pages).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final

from neap.common.units import KIB, MIB, Bytes, Seconds
from neap.reporter.core.collector import MACHINE, NUMA, RARE, Collector, Fields, Scope, Surroundings, Values, Wants
from neap.reporter.core.text import count, counts, line_start, value_of

NODE_DIR: Final = "/sys/devices/system/node"
PAGE_SIZES: Final = (4 * KIB, 16 * KIB, 64 * KIB)
BUDGET: Final = 8 * MIB  # a list of per-CPU pools in every zone
HEAD: Final = "Node "


@dataclass(frozen=True, slots=True)
class MemoryZone:
    """One zone of one NUMA node; all in pages."""

    node: int
    zone: str
    free: int
    min: int
    low: int
    high: int
    managed: int


def parse_zoneinfo(text: str) -> list[MemoryZone]:
    """Every zone listed."""
    zones = []
    for block in f"\n{text}".split(f"\n{HEAD}")[1:]:
        first, _, rest = block.partition("\n")
        node, _, name = first.partition(", zone")
        flat = rest[:end] if (end := rest.find("protection:")) >= 0 else rest
        words = flat[flat.find("pages free") + len("pages ") :].split()
        found = dict(zip(words[::2], words[1::2], strict=False))
        numbers = counts([found[key] for key in ("free", "min", "low", "high", "managed")])
        zones.append(MemoryZone(count(node), name.strip(), *numbers))
    if not zones:
        raise ValueError("no zone")
    return zones


def wants(around: Surroundings) -> Wants:
    """The zones, and how much memory each NUMA node has."""
    totals = tuple((f"{NODE_DIR}/node{index}/meminfo", partial(_total, index)) for index in around.numa)
    return (("/proc/zoneinfo", _zones), *(totals or (("/proc/meminfo", partial(_total, MACHINE)),)))


def rate(_before: Values | None, now: Values, _seconds: Seconds) -> Fields:
    """The watermarks now."""
    zones, *totals = now
    if zones is None:
        return {}
    memory: dict[int, int] = dict(total for total in totals if total is not None)
    low, managed = dict[int, int](), dict[int, int]()
    for zone in zones:
        if zone.managed:
            low[zone.node] = low.get(zone.node, 0) + zone.low
            managed[zone.node] = managed.get(zone.node, 0) + zone.managed
    if len(low) == 1 and MACHINE in memory:
        memory[next(iter(low))] = memory[MACHINE]
    found = {
        node: None if (size := page_size(memory.get(node), managed[node])) is None else pages * size
        for node, pages in low.items()
    }
    return {f"{NUMA}watermark_low": found | ({MACHINE: next(iter(found.values()))} if len(found) == 1 else {})}


def page_size(total: Bytes | None, pages: int) -> Bytes | None:
    """Bytes per page, if the two numbers agree on one of the sizes there are."""
    return next((size for size in PAGE_SIZES if total == size * pages), None)


def _zones(text: str) -> list[MemoryZone]:
    try:
        return parse_zoneinfo(text)
    except KeyError as error:
        raise ValueError(f"a zone without {error}") from None


def _total(index: int, text: str) -> tuple[int, Bytes]:
    start = 0 if line_start(text, "MemTotal:") >= 0 else text.find(" MemTotal:") + 1
    return index, value_of(text[start:], "MemTotal:") * KIB


PLUGIN: Final = Collector(Scope.NODE, wants, rate, every=RARE, budget=BUDGET)
