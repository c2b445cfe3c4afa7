"""Bytes available on the machine; free and in all on each NUMA node.

    available = MemAvailable; kernels before 3.14 do not say, then
    available ≈ MemFree + Buffers + Cached + SReclaimable − Shmem         [bytes]
    memory_free, memory_total = MemFree, MemTotal of the node             [bytes]

The kernel keeps no "available" per node, and its nodes need not add up to the machine (memory that is added late is
booked late). On a machine without node directories the one implied node has the machine's.
Source: kernel documentation, filesystems/proc, 1.2; the fallback as procps' `free` did it.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from neap.common.units import KIB, Bytes, Seconds
from neap.reporter.core.collector import MACHINE, NUMA, Collector, Fields, Scope, Surroundings, Values, Wants
from neap.reporter.core.text import LARGEST, value_if, value_of

NODE_DIR: Final = "/sys/devices/system/node"
CACHED: Final = ("Buffers:", "Cached:", "SReclaimable:")

Sizes = tuple[Bytes | None, Bytes | None]  # free, total


def parse_meminfo(text: str) -> tuple[Bytes, Sizes]:
    """Bytes available on the machine; free and total."""
    free, total = _bytes_if(value_if(text, "MemFree:")), _bytes_if(value_if(text, "MemTotal:"))
    available = _bytes_if(value_if(text, "MemAvailable:"))
    if available is None:
        cached = sum(value_if(text, key) or 0 for key in CACHED)
        kib = value_of(text, "MemFree:") + cached - (value_if(text, "Shmem:") or 0)
        available = _bytes(max(0, kib))
    return available, (free, total)


def parse_node_meminfo(text: str) -> Sizes:
    """Bytes free on one NUMA node and in all: lines like "Node 0 MemFree:   123 kB"."""
    return _of_line(text, "MemFree:"), _of_line(text, "MemTotal:")


def wants(around: Surroundings) -> Wants:
    """The machine's file, and one per NUMA node."""
    return (
        ("/proc/meminfo", parse_meminfo),
        *((f"{NODE_DIR}/node{index}/meminfo", partial(_of_node, index)) for index in around.numa),
    )


def rate(_before: Values | None, now: Values, _seconds: Seconds) -> Fields:
    """What is free now."""
    machine, *nodes = now
    sizes: dict[int, Sizes] = dict(node for node in nodes if node is not None)
    if machine is not None:
        sizes[MACHINE] = machine[1]
    return {
        "memory_available": None if machine is None else machine[0],
        f"{NUMA}memory_free": {index: pair[0] for index, pair in sizes.items()},
        f"{NUMA}memory_total": {index: pair[1] for index, pair in sizes.items()},
    }


def _of_line(text: str, key: str) -> Bytes:
    at = text.find(f" {key}")
    if at < 0:
        raise ValueError(f"no {key} line")
    return _bytes(value_of(text[at + 1 : text.find("\n", at) + 1 or len(text)], key))


def _of_node(index: int, text: str) -> tuple[int, Sizes]:
    return index, parse_node_meminfo(text)


def _bytes_if(kib: int | None) -> Bytes | None:
    return None if kib is None else _bytes(kib)


def _bytes(kib: int) -> Bytes:
    if kib > LARGEST // KIB:
        raise ValueError(f"not a memory size: {kib} KiB")
    return kib * KIB


PLUGIN: Final = Collector(Scope.NODE, wants, rate)
