"""Traffic of every RDMA port, named "mlx5_0/1": device and port.

    read, write = Δ(port_rcv_data, port_xmit_data) · 4 / Δt             [bytes per second; both count 4-byte words]
    errors      = Δ(port_rcv_errors + port_xmit_discards) / Δt          [per second, no unit]
    speed       = rate                                                  [bytes per second, of 10^9 bits]

Old adapters keep 32 bits of data and 16 of errors, and stop at the largest value instead of starting again: there a
counter is unknown.
Source: kernel documentation, ABI/stable/sysfs-class-infiniband; InfiniBand specification 16.1.3.5 (PortCounters).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from neap.common.model.usage import DeviceUsage
from neap.common.units import Seconds
from neap.reporter.core.collector import Collector, Fields, Scope, Surroundings, Values, Wants, growth
from neap.reporter.core.text import count

RDMA_DIR: Final = "/sys/class/infiniband"
WORD: Final = 4  # bytes
GIGABIT: Final = 125_000_000  # bytes
RATE: Final = re.compile(r"[0-9]{1,6}(\.[0-9]{1,3})?")
STUCK_DATA: Final = (1 << 32) - 1
STUCK_ERRORS: Final = (1 << 16) - 1
DEVICE_LIMIT: Final = 64


def parse_words(text: str) -> int | None:
    """Bytes; None once the counter is full."""
    words = count(text)
    return None if words == STUCK_DATA else words * WORD


def parse_errors(text: str) -> int | None:
    """A number of errors; None once the counter is full."""
    errors = count(text)
    return None if errors == STUCK_ERRORS else errors


def parse_rate(text: str) -> float:
    """Bytes per second in a text like "100 Gb/sec (4X EDR)"."""
    number, unit, *_ = text.split()
    if unit != "Gb/sec" or not RATE.fullmatch(number) or not float(number):
        raise ValueError(f"no rate: {text[:32]!r}")
    return float(number) * GIGABIT


FILES: Final[tuple[tuple[str, str, Callable[[str], Any]], ...]] = (
    ("read", "counters/port_rcv_data", parse_words),
    ("write", "counters/port_xmit_data", parse_words),
    ("bad", "counters/port_rcv_errors", parse_errors),
    ("dropped", "counters/port_xmit_discards", parse_errors),
    ("speed", "rate", parse_rate),
)


def ports(around: Surroundings) -> list[tuple[str, str]]:
    """Device and port."""
    found = [
        (device, port)
        for device in around.listed(RDMA_DIR)
        for port in around.listed(f"{RDMA_DIR}/{device}/ports")
        if port.isdecimal()
    ]
    return found[:DEVICE_LIMIT]


def wants(around: Surroundings) -> Wants:
    """Five files per port."""
    return tuple(
        (f"{RDMA_DIR}/{device}/ports/{port}/{file}", partial(_of, f"{device}/{port}", key, parse))
        for device, port in ports(around)
        for key, file, parse in FILES
    )


def rate(before: Values | None, now: Values, seconds: Seconds) -> Fields:
    """Traffic since the reading before."""
    earlier = {value[:2]: value[2] for value in before or () if value is not None}
    later = {value[:2]: value[2] for value in now if value is not None}

    def per_second(port: str, key: str) -> float | None:
        grown = growth(earlier.get((port, key)), later.get((port, key)))
        return None if grown is None else grown / seconds

    def usage(port: str) -> DeviceUsage:
        bad, dropped = per_second(port, "bad"), per_second(port, "dropped")
        return DeviceUsage(
            name=port,
            read=per_second(port, "read"),
            write=per_second(port, "write"),
            errors=None if bad is None or dropped is None else bad + dropped,
            speed=later.get((port, "speed")),
        )

    return {"rdma": tuple(usage(port) for port in sorted({port for port, _ in (*earlier, *later)}))}


def _of(port: str, key: str, parse: Callable[[str], Any], text: str) -> tuple[str, str, Any]:
    return port, key, parse(text)


PLUGIN: Final = Collector(Scope.NODE, wants, rate, lists=(RDMA_DIR, f"{RDMA_DIR}/*/ports"))
