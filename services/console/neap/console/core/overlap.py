"""What an export tells more than once, told once: sums beside what they are the sum of. Pure.

cAdvisor has a series per container, per pod (the same again, container="") and per node (all of them again, no labels),
and a query that does not choose among them exports all three:

    a pod's pause container (container="POD")        left out
    a sum of some labels beside series with more     left out; it is the sum over these
    a node's sum (no labels) beside its workloads    what is above the sum over these: kubelet, daemons, kernel

A series is a sum over those of its node that have the same labels and more, of namespace, workload, pod and container.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Final

from neap.common.units import Cores, Seconds
from neap.console.core.export import ALL, WORKLOAD_LABELS, Export

PAUSE: Final = "POD"  # the container that only holds a pod's network
SUM: Final = "a sum of others that are told as well: left out"
REST: Final = "a node's sum beside its workloads: only what is above them counts"
HOLDS_NETWORK: Final = "a pod's pause container"
Samples = Mapping[Seconds, Cores | None]


def told_once(export: Export) -> Export:
    """The export without what is told again; `left_out` says how many series that were. Not twice on the same."""
    found: Counter[str] = Counter()
    used: dict[str, dict[str, dict[Seconds, Cores | None]]] = {}
    requests = {node: dict(asked) for node, asked in export.requests.items()}
    for node, lines in export.used.items():
        kept = {name: line for name, line in lines.items() if not _is_pause(export, name)}
        sums = _sums(export, list(kept))
        found[HOLDS_NETWORK] += len(lines) - len(kept)
        found[SUM] += len(sums)
        kept = {name: line for name, line in kept.items() if name not in sums}
        if ALL in kept and len(kept) > 1:
            found[REST] += 1
            asked = requests.get(node, {})
            if ALL in asked:
                asked[ALL] = max(0.0, asked[ALL] - sum(asked.get(name, 0.0) for name in kept if name != ALL))
            kept[ALL] = _rest(kept.pop(ALL), list(kept.values()))
        used[node] = kept
    return replace(export, used=used, requests=requests, left_out=+found)


def _is_pause(export: Export, name: str) -> bool:
    return export.labels.get(name, {}).get("container") == PAUSE


def _sums(export: Export, names: Sequence[str]) -> set[str]:
    """Those that are sums over others; a node's sum is not among them."""
    told = {_key(export.labels[name]): name for name in names if name in export.labels}
    return {
        told[fewer]
        for key in told
        for count in range(1, len(key))
        for fewer in combinations(key, count)
        if fewer in told
    }


def _key(labels: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((label, labels[label]) for label in WORKLOAD_LABELS if labels.get(label))


def _rest(total: Samples, parts: Sequence[Samples]) -> dict[Seconds, Cores | None]:
    """What is above the parts; a part that is not there at a time adds nothing."""
    return {
        at: None if cores is None else max(0.0, cores - sum(part.get(at) or 0.0 for part in parts))
        for at, cores in total.items()
    }
