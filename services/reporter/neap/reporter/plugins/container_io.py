"""Traffic of a container with block devices, and the share of time its tasks waited for them.

    io_read, io_write = Σ over devices of Δrbytes, Δwbytes / Δt      [bytes per second]
    io_stall          = io.pressure                                  [ratio 0..1]

A request through a stacked device (dm, md) is booked on it and on the disk below, so devices that have others below
them are left out. A device shows up with its first request: until then it had none. An empty file says there was no
request at all.
Source: kernel documentation, admin-guide/cgroup-v2, io.stat; accounting/psi; ABI/stable/sysfs-block (slaves).
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Final

from neap.common.units import Seconds
from neap.reporter.core.collector import CALM, Collector, Fields, Scope, Surroundings, Values, Wants, growth, known_sum
from neap.reporter.core.psi import parse_whole_pressure, stall
from neap.reporter.core.text import count

DEVICE_DIR: Final = "/sys/dev/block"

Traffic = dict[str, tuple[int, int]]  # "8:0" -> bytes read, bytes written


def parse_io_stat(text: str, stacked: AbstractSet[str] = frozenset()) -> Traffic:
    """Every device a request went to, but those in `stacked`."""
    found: Traffic = {}
    for line in text.splitlines():
        device, _, rest = line.partition(" ")
        if device in stacked or not rest:
            continue
        pairs = dict(word.split("=", 1) for word in rest.split())
        if "rbytes" in pairs:
            found[device] = (count(pairs["rbytes"]), count(pairs["wbytes"]))
    return found


def wants(around: Surroundings) -> Wants:
    """Traffic and pressure."""
    names = around.listed(DEVICE_DIR)
    stacked = frozenset(name for name in names if around.listed(f"{DEVICE_DIR}/{name}/slaves"))

    def parse(text: str) -> Traffic:
        try:
            return parse_io_stat(text, stacked)
        except KeyError as error:
            raise ValueError(f"a device without {error}") from None

    return (("io.stat", parse), ("io.pressure", parse_whole_pressure))


def rate(before: Values | None, now: Values, seconds: Seconds) -> Fields:
    """Traffic since the reading before."""
    fields = {"io_stall": stall(None if before is None else before[1], now[1], seconds)}
    earlier: Traffic | None = None if before is None else before[0]
    later: Traffic | None = now[0]
    if earlier is None or later is None:
        return fields
    devices = dict.fromkeys((*earlier, *later))
    read, written = (
        known_sum([growth(earlier.get(each, (0, 0))[way], later.get(each, (0, 0))[way]) for each in devices] or [0])
        for way in (0, 1)
    )
    return {
        **fields,
        "io_read": None if read is None else read / seconds,
        "io_write": None if written is None else written / seconds,
    }


LISTS: Final = (DEVICE_DIR, f"{DEVICE_DIR}/*/slaves")
PLUGIN: Final = Collector(Scope.CONTAINER, wants, rate, every=CALM, lists=LISTS)
