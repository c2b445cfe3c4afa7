"""Resource kinds are data, not branches.

`Resources` maps a kind's name to an int in that kind's unit, so sums are exact. A kind not listed here travels
and is accounted all the same (unit: whatever its owner says); the table only teaches neap how people write it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

from neap.common.errors import InputError
from neap.common.units import MIB, parse_quantity

Resources: TypeAlias = dict[str, int]

CPU: Final = "cpu"
MEMORY: Final = "memory"
RECLAIMED_CPU: Final = "neap.io/reclaimed-cpu"
RECLAIMED_MEMORY: Final = "neap.io/reclaimed-memory"
RECLAIMED_MILLI_CPU: Final = "neap.io/reclaimed-millicpu"  # for Kubernetes, whose extended resources are integers
GPU_CORE: Final = "neap.io/gpu-core"
GPU_MEMORY: Final = "neap.io/gpu-memory"

# kind -> its unit
UNITS: Final[Mapping[str, str]] = {
    CPU: "milli-cores",
    RECLAIMED_CPU: "milli-cores",
    MEMORY: "bytes",
    RECLAIMED_MEMORY: "bytes",
    GPU_CORE: "percent of a card",
    GPU_MEMORY: "MiB of a card",
}
# Katalyst's names (kubewharf/katalyst-api pkg/consts/resource.go) mean the same kinds, in its own units; the last two
# are those of its older documents.
ALIASES: Final[Mapping[str, str]] = {
    RECLAIMED_MILLI_CPU: RECLAIMED_CPU,
    "resource.katalyst.kubewharf.io/reclaimed_millicpu": RECLAIMED_CPU,
    "resource.katalyst.kubewharf.io/reclaimed_memory": RECLAIMED_MEMORY,
    "katalyst.kubewharf.io/reclaimed_millicpu": RECLAIMED_CPU,
    "katalyst.kubewharf.io/reclaimed_memory": RECLAIMED_MEMORY,
}
LARGEST: Final = 1 << 53  # stays exact in a float64 column


def parse_amount(kind: str, text: str | int, *, where: str = "request") -> tuple[str, int]:
    """One written amount -> (canonical kind, whole units of that kind).

    Raises:
        InputError: no quantity, negative, huge, or finer than the kind's unit (never rounded silently).
    """
    name = ALIASES.get(kind, kind)
    try:
        quantity = parse_quantity(str(text))
    except InputError as error:
        raise InputError(f"{where}: {kind}: {error}") from None
    if name in (CPU, RECLAIMED_CPU) and kind == name:
        quantity *= 1000
    elif name == GPU_MEMORY and str(text).strip()[-1:].isalpha():
        quantity /= MIB
    unit = UNITS.get(name, "units")
    if quantity.denominator != 1:
        raise InputError(f"{where}: {kind}={text} is finer than one unit ({unit}); it is not rounded")
    amount = int(quantity)
    if amount < 0:
        raise InputError(f"{where}: {kind}={text} is negative")
    if amount > LARGEST:
        raise InputError(f"{where}: {kind}={text} is beyond {LARGEST} {unit}")
    return name, amount


def add(left: Mapping[str, int], right: Mapping[str, int]) -> Resources:
    """Kind-wise sum."""
    total = dict(left)
    for kind, amount in right.items():
        total[kind] = total.get(kind, 0) + amount
    return total


def subtract(left: Mapping[str, int], right: Mapping[str, int]) -> Resources:
    """Kind-wise difference; may go below zero, the caller decides what that means."""
    total = dict(left)
    for kind, amount in right.items():
        total[kind] = total.get(kind, 0) - amount
    return total


def short_of(needed: Mapping[str, int], free: Mapping[str, int]) -> list[str]:
    """Kinds of which `free` has less than `needed`, by name."""
    return sorted(kind for kind, amount in needed.items() if amount > free.get(kind, 0))
