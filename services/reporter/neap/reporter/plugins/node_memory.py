"""Bytes available on the machine, and free on each NUMA node.

    available = MemAvailable; kernels before 3.14 do not say, then
    available ≈ MemFree + Buffers + Cached + SReclaimable − Shmem         [bytes]

A NUMA node's free memory is its MemFree: the kernel keeps no "available" per node. On a machine without node
directories the one implied node has the machine's.
Source: kernel documentation, filesystems/proc, 1.2; the fallback as procps' `free` did it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from neap.common.units import Bytes, Seconds
from neap.reporter.core.collector import FREE_OF, MACHINE, Collector, Fields, Scope, Values, Wants
from neap.reporter.core.text import LARGEST, line_start, value_of

KIB: Final = 1024
NODE_DIR: Final = "/sys/devices/system/node"
FREE: Final = "MemFree:"
AVAILABLE: Final = "MemAvailable:"
CACHED: Final = ("Buffers:", "Cached:", "SReclaimable:")
SHARED: Final = "Shmem:"


def parse_meminfo(text: str) -> tuple[Bytes, Bytes | None]:
    """Bytes available on the machine, and bytes free."""
    if line_start(text, AVAILABLE) >= 0:
        free = _bytes(value_of(text, FREE)) if line_start(text, FREE) >= 0 else None
        return _bytes(value_of(text, AVAILABLE)), free
    kib = value_of(text, FREE)
    cached = sum(value_of(text, key) for key in CACHED if line_start(text, key) >= 0)
    shared = value_of(text, SHARED) if line_start(text, SHARED) >= 0 else 0
    return _bytes(max(0, kib + cached - shared)), _bytes(kib)


def parse_node_meminfo(text: str) -> Bytes:
    """Bytes free on one NUMA node: the line "Node 0 MemFree:   123 kB"."""
    at = text.find(FREE)
    if at < 0:
        raise ValueError("no MemFree line")
    return _bytes(value_of(text[at : text.find("\n", at) + 1 or len(text)], FREE))


def wants(numa: Sequence[int]) -> Wants:
    """The machine's file, and one per NUMA node."""
    return (
        ("/proc/meminfo", parse_meminfo),
        *((f"{NODE_DIR}/node{index}/meminfo", partial(_of_node, index)) for index in numa),
    )


def rate(_before: Values | None, now: Values, _seconds: Seconds) -> Fields:
    """What is free now."""
    machine, *nodes = now
    free_of = dict(node for node in nodes if node is not None)
    if machine is None:
        return {FREE_OF: free_of}
    return {"memory_available": machine[0], FREE_OF: free_of | {MACHINE: machine[1]}}


def _of_node(index: int, text: str) -> tuple[int, Bytes]:
    return index, parse_node_meminfo(text)


def _bytes(kib: int) -> Bytes:
    if kib > LARGEST // KIB:
        raise ValueError(f"not a memory size: {kib} KiB")
    return kib * KIB


PLUGIN: Final = Collector(Scope.NODE, wants, rate)
