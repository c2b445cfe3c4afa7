"""What a pool is: its nodes with who is on them, and who waits for a place there. No decision is made here.

A pod *stays* on whatever side (daemons, system_cores), is a *guest* (reclaimed_cores), or is *online*. An online pod may
be moved if somebody makes it anew (it has an owner), nothing binds it to this node (selectors that not all nodes of the
pool meet, pods it must be near, its gang, a kind beside cores and memory), and it does not refuse (safe-to-evict).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from neap.common.model.placement import Placement
from neap.common.model.qos import QosClass
from neap.common.model.resource import CPU, MEMORY
from neap.common.model.scheduling import Expression, Operator
from neap.common.model.tide import MOST_BLOCKERS, Side, TideNode
from neap.common.model.workload import Workload
from neap.common.units import Cores, Seconds
from neap.foresight.series import Series
from neap.foresight.tide_room import Ask
from neap.foresight.tide_rule import Node
from neap.planner.core.cluster import Cluster, Pod
from neap.planner.core.cluster import Node as ClusterNode
from neap.planner.core.record import Record

SAFE: Final = "cluster-autoscaler.kubernetes.io/safe-to-evict"  # annotation; "false": nobody moves it
HOSTNAME: Final = "kubernetes.io/hostname"


def side_of(workload: Workload) -> Side | None:
    """Whose nodes it runs on; None: it belongs to its node, on whatever side that is."""
    if workload.qos is QosClass.SYSTEM or workload.owner.partition("/")[0] == "DaemonSet":
        return None
    return Side.OFFLINE if workload.qos is QosClass.RECLAIMED else Side.ONLINE


def other(side: Side) -> Side:
    """Whose pods have to leave a node that turns to a side."""
    return Side.OFFLINE if side is Side.ONLINE else Side.ONLINE


def pools(cluster: Cluster) -> Mapping[str, Sequence[ClusterNode]]:
    """The nodes of every pool that has a name, in their order."""
    found: dict[str, list[ClusterNode]] = {}
    for name in sorted(cluster.nodes):
        node = cluster.nodes[name]
        if (node.topology is not None or node.object is not None) and node.pool:
            found.setdefault(node.pool, []).append(node)
    return found


def gathered(cluster: Cluster, nodes: Sequence[ClusterNode], states: Mapping[str, TideNode], at: Seconds) -> list[Node]:
    """The pool for its rule; who was not in it before is online."""
    labels = [known(node) for node in nodes]
    kept: dict[tuple[object, ...], bool] = {}
    return [_node(node, cluster.pods_of(node), states.get(node.name), labels, kept, at) for node in nodes]


def waiting_for(workloads: Iterable[Workload], nodes: Sequence[ClusterNode]) -> list[Ask]:
    """Of those who wait, who could run on a node of this pool, whatever its side."""
    labels = [known(node) for node in nodes]
    found = Counter(
        (one.requests.get(CPU, 0), one.requests.get(MEMORY, 0))
        for one in workloads
        if side_of(one) is Side.ONLINE and any(meets(one, each) for each in labels)
    )
    return [Ask(cpu, memory, count) for (cpu, memory), count in sorted(found.items())]


def known(node: ClusterNode) -> Mapping[str, str]:
    """Its labels; a node that does not name its host is its own host."""
    return {HOSTNAME: node.name, **node.labels}


def used_by_owners(record: Record, nodes: Sequence[ClusterNode]) -> Cores:
    """What owners used last on these nodes together, those not known taken as the others' mean; NaN: nothing is known."""
    seen = [last for node in nodes if math.isfinite(last := _last(record.node(node.name, CPU)))]
    return sum(seen) * len(nodes) / len(seen) if seen else math.nan


def meets(workload: Workload, labels: Mapping[str, str]) -> bool:
    """Whether its selector and required terms hold for a node. A comparison of numbers never does here: it binds."""
    if any(labels.get(key) != value for key, value in workload.node_selector.items()):
        return False
    terms = workload.constraints.node_required
    return not terms or any(
        all(_holds(one, labels.get(one.key)) for one in term.expressions)
        and all(_holds(one, labels.get(HOSTNAME)) for one in term.names)
        for term in terms
    )


def _holds(expression: Expression, value: str | None) -> bool:
    match expression.operator:
        case Operator.IN:
            return value in expression.values
        case Operator.NOT_IN:
            return value not in expression.values
        case Operator.EXISTS:
            return value is not None
        case Operator.DOES_NOT_EXIST:
            return value is None
    return False


def _last(series: Series | None) -> float:
    return float(series.values[-1]) if series is not None and len(series) else math.nan


def _node(
    node: ClusterNode,
    pods: Sequence[Pod],
    state: TideNode | None,
    labels: Sequence[Mapping[str, str]],
    kept: dict[tuple[object, ...], bool],
    at: Seconds,
) -> Node:
    state = state or TideNode(node=node.name, side=Side.ONLINE, why="new to the pool")
    has = node.topology.allocatable if node.topology is not None else {}
    of: dict[Side | None, list[Pod]] = {None: [], Side.ONLINE: [], Side.OFFLINE: []}
    for pod in pods:
        of[side_of(pod.workload)].append(pod)
    resident, guests = [_charged(pod.placement) for pod in of[None]], of[Side.OFFLINE]
    online = Counter((*_charged(pod.placement), _is_movable(pod.workload, labels, kept)) for pod in of[Side.ONLINE])
    return Node(
        state,
        max(0, has.get(CPU, 0) - sum(cpu for cpu, _ in resident)),
        max(0, has.get(MEMORY, 0) - sum(memory for _, memory in resident)),
        tuple(Ask(cpu, memory, count, movable) for (cpu, memory, movable), count in sorted(online.items())),
        guests=len(guests),
        lost=sum(max(0.0, at - (pod.started_at or at)) for pod in guests),
        stays=tuple(sorted(pod.workload.key for pod in of[other(state.side)])[:MOST_BLOCKERS]),
        present=node.topology is not None and not (node.object is not None and node.object.cordoned),
    )


def _is_movable(workload: Workload, labels: Sequence[Mapping[str, str]], kept: dict[tuple[object, ...], bool]) -> bool:
    constraints = workload.constraints
    if not workload.owner or workload.gang is not None or constraints.near or workload.devices is not None:
        return False
    if workload.annotations.get(SAFE) == "false" or set(workload.requests) - {CPU, MEMORY}:
        return False
    wish = (tuple(sorted(workload.node_selector.items())), constraints.node_required)
    if wish not in kept:
        kept[wish] = all(meets(workload, each) for each in labels)
    return kept[wish]


def _charged(placement: Placement) -> tuple[int, int]:
    return placement.charged.get(CPU, 0), placement.charged.get(MEMORY, 0)
