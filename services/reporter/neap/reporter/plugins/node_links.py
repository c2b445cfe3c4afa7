"""Traffic of every network link that is a device of its own; not of bridges, bonds, tunnels and the pods' ends.

    read, write = Δbytes / Δt                                   [bytes per second]
    errors      = Δ(errors + drops, both directions) / Δt       [per second, no unit]
    speed       = what the link says it can do                  [bytes per second]

Some drivers count bytes in 32 bits. Such a counter wrapped if it then grew by no more than the link can carry in the
time; without a known speed it is taken for reset, and unknown. The names are those of the reporter's own network
namespace, so it has to live in the host's.
Source: kernel documentation, networking/statistics; ABI/testing/sysfs-class-net (speed, in Mbit/s, -1 if unknown).
"""

from __future__ import annotations

from functools import partial
from typing import Final

from neap.common.model.usage import DeviceUsage
from neap.common.units import MIB, Seconds
from neap.reporter.core.collector import Collector, Fields, Scope, Surroundings, Values, Wants, growth
from neap.reporter.core.text import WIDTH_32, count, counts

LINK_DIR: Final = "/sys/class/net"
MBIT: Final = 125_000  # bytes
FASTEST: Final = 1_000_000_000  # Mbit/s; a link that says more says nothing
DEVICE_LIMIT: Final = 64
SLACK: Final = 1.1

Counters = tuple[int, int, int]  # bytes received, bytes sent, errors and drops


def parse_net_dev(text: str) -> dict[str, Counters]:
    """Every link listed."""
    found: dict[str, Counters] = {}
    for line in text.splitlines():
        name, colon, rest = line.rpartition(":")
        if not colon:
            continue
        numbers = counts(rest.split())
        wrong = numbers[2] + numbers[3] + numbers[10] + numbers[11]
        found[name.strip()] = (numbers[0], numbers[8], wrong)
    if not found:
        raise ValueError("no link")
    return found


def links(around: Surroundings) -> list[str]:
    """Names of links that hang from a bus."""
    return [name for name in around.listed(LINK_DIR) if "device" in around.listed(f"{LINK_DIR}/{name}")]


def wants(around: Surroundings) -> Wants:
    """One file for the traffic of all, and one each for the speed."""
    chosen = links(around)[:DEVICE_LIMIT]

    def parse_links(text: str) -> dict[str, Counters | None]:
        found = parse_net_dev(text)
        return {name: found.get(name) for name in chosen}

    return (("/proc/net/dev", parse_links), *((f"{LINK_DIR}/{name}/speed", partial(_speed, name)) for name in chosen))


def rate(before: Values | None, now: Values, seconds: Seconds) -> Fields:
    """Traffic since the reading before."""
    if now[0] is None:
        return {}
    earlier: dict[str, Counters | None] = (before[0] if before is not None else None) or {}
    speeds: dict[str, float | None] = dict(value for value in now[1:] if value is not None)
    return {
        "links": tuple(
            _usage(name, earlier.get(name), is_now, speeds.get(name), seconds) for name, is_now in now[0].items()
        )
    }


def _usage(name: str, was: Counters | None, now: Counters | None, speed: float | None, seconds: Seconds) -> DeviceUsage:
    if was is None or now is None:
        return DeviceUsage(name=name, speed=speed)
    most = (speed or 0.0) * seconds * SLACK
    read, write, errors = (growth(a, b, wrap=WIDTH_32, most=most) for a, b in zip(was, now, strict=True))
    return DeviceUsage(
        name=name,
        read=None if read is None else read / seconds,
        write=None if write is None else write / seconds,
        errors=None if errors is None else errors / seconds,
        speed=speed,
    )


def _speed(name: str, text: str) -> tuple[str, float | None]:
    if text.startswith("-"):
        return name, None
    if (mbit := count(text)) > FASTEST:
        raise ValueError(f"no speed: {text[:32]!r}")
    return name, mbit * MBIT or None


PLUGIN: Final = Collector(Scope.NODE, wants, rate, lists=(LINK_DIR, f"{LINK_DIR}/*"), budget=MIB)
