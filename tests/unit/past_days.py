"""Made exports: days of a tide on a few nodes, for the tests of `neap assess`."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from neap.console.core.export import Export
from neap.console.core.strategies.history import History, history_of

START = 1_760_054_400.0  # a midnight, UTC
FIVE = 300.0


def wave(step: int, *, low: float = 0.2, high: float = 0.65) -> float:
    """Of a request: low at 4 o'clock, high at 16."""
    return low + (high - low) * (1 - math.cos(2 * math.pi * (step / 288 - 1 / 6))) / 2


def export(
    *, days: float = 4, nodes: int = 4, services: int = 3, replicas: int = 4, request: float = 4.0,
    shape: Callable[[int], float] = wave, noise: float = 0.02, scale: float = 1.0, is_told: bool = True, seed: int = 1,
    cores: int = 16, heights: float = 0.0,
) -> Export:  # fmt: skip
    """Every service has its replicas on nodes in turn; all follow `shape` of their requests, each day as high as it is."""
    found, chance = Export(), np.random.default_rng(seed)
    course = np.array([shape(step) for step in range(round(days * 288))])
    course *= np.repeat(1 + heights * chance.standard_normal(math.ceil(days)), 288)[: len(course)]
    for service in range(services):
        for replica in range(replicas):
            node, pod = f"n{(service * replicas + replica) % nodes:02}", f"web{service}-6b7f9d8c5-abcd{replica}"
            name = f"shop/{pod}"
            used = request * scale * np.maximum(0.0, course * (1 + noise * chance.standard_normal(len(course))))
            found.labels[name] = {"namespace": "shop", "pod": pod}
            found.used.setdefault(node, {})[name] = {START + FIVE * i: float(one) for i, one in enumerate(used)}
            if is_told:
                found.requests.setdefault(node, {})[name] = request * scale
    found.capacity = dict.fromkeys((f"n{node:02}" for node in range(nodes)), cores * scale)
    return found


def history(**what: object) -> History:
    """The same, as one history."""
    return history_of(export(**what), 0)  # type: ignore[arg-type]
