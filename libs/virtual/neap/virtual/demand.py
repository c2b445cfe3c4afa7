"""What a container wants of the CPU and of memory, as functions of time."""

from __future__ import annotations

from typing import Final

from neap.common.units import Bytes, Cores, Seconds
from neap.virtual.pod import Curve, Memory

_MASK: Final = (1 << 64) - 1


def uniform(seed: int, count: int) -> float:
    """A number in −1..1 that depends on nothing but its arguments (splitmix64, Steele et al. 2014)."""
    z = (seed * 0xD1342543DE82EF95 + (count + 1) * 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ z >> 27) * 0x94D049BB133111EB) & _MASK
    return (z ^ z >> 31) / (1 << 63) - 1.0


def offered(curve: Curve, at: Seconds) -> Cores:
    """Cores an online service offers at a time; formula in pod.Curve."""
    points = curve.points
    if not points:
        return 0.0
    place = (at - curve.origin) / curve.step
    whole = int(place // 1)
    left, right = points[whole % len(points)], points[(whole + 1) % len(points)]
    cores = curve.scale * (left + (right - left) * (place - whole))
    if curve.noise:
        cores *= 1.0 + curve.noise * uniform(curve.seed, int(at // 60))
    if curve.burst:
        slot = int(at // curve.burst_length)
        if (uniform(~curve.seed, slot) + 1) / 2 < curve.burst_length / curve.burst_every:
            cores *= 1.0 + curve.burst
    return max(0.0, cores)


def anonymous(memory: Memory, age: Seconds) -> Bytes:
    """Anonymous memory a container wants after `age` seconds."""
    grown = memory.start + int(memory.per_second * age)
    if memory.ceiling:
        grown = min(grown, memory.ceiling)
    return max(0, grown)
