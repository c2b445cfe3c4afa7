"""What Kubernetes says about one pod on one node, written from its documentation, as slowly as can be.

A cluster is a list of nodes (name, labels, taints, cordoned) and a list of pods (node, namespace, labels, constraints).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from neap.common.model.scheduling import Constraints, Expression, NodeTerm, PodTerm, Spread, Taint, Toleration


@dataclass
class Node:
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: Sequence[Taint] = ()
    cordoned: bool = False


@dataclass
class Pod:
    namespace: str
    labels: Mapping[str, str]
    constraints: Constraints
    selector: Mapping[str, str] = field(default_factory=dict)
    qos: str = "shared_cores"
    node: str = ""


@dataclass
class Cluster:
    nodes: Sequence[Node]
    pods: Sequence[Pod]

    def on(self, node: Node) -> list[Pod]:
        return [pod for pod in self.pods if pod.node == node.name]


def expression_holds(one: Expression, labels: Mapping[str, str]) -> bool:
    if one.operator == "In":
        return one.key in labels and labels[one.key] in one.values
    if one.operator == "NotIn":
        return not (one.key in labels and labels[one.key] in one.values)
    if one.operator == "Exists":
        return one.key in labels
    if one.operator == "DoesNotExist":
        return one.key not in labels
    try:
        have, bound = int(labels[one.key]), int(one.values[0])
        if not all(-(1 << 63) <= number < 1 << 63 for number in (have, bound)):
            return False  # Kubernetes parses 64 bits; what is beyond is no number
    except (KeyError, ValueError):
        return False
    return have > bound if one.operator == "Gt" else have < bound


def term_accepts(term: NodeTerm, node: Node) -> bool:
    if not term.expressions and not term.names:
        return False
    return all(expression_holds(one, node.labels) for one in term.expressions) and all(
        expression_holds(one, {one.key: node.name}) for one in term.names
    )


def node_affinity(pod: Pod, node: Node) -> bool:
    terms = pod.constraints.node_required
    return not terms or any(term_accepts(term, node) for term in terms)


def node_preference(pod: Pod, node: Node) -> float | None:
    terms = [term for term in pod.constraints.node_preferred if term.expressions or term.names]
    if not terms:
        return None
    return 100 * sum(t.weight for t in terms if term_accepts(t, node)) / sum(t.weight for t in terms)


def tolerated(toleration: Toleration, taint: Taint) -> bool:
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key and toleration.key != taint.key:
        return False
    return True if toleration.exists else toleration.value == taint.value


def untolerated(pod: Pod, node: Node) -> list[Taint]:
    taints = list(dict.fromkeys(node.taints))
    if node.cordoned and Taint(key="node.kubernetes.io/unschedulable") not in taints:
        taints.append(Taint(key="node.kubernetes.io/unschedulable"))
    meant = [taint for taint in taints if not taint.qos or pod.qos in taint.qos]
    return [taint for taint in meant if not any(tolerated(one, taint) for one in pod.constraints.tolerations)]


def untainted(pod: Pod, node: Node) -> bool:
    return not any(taint.effect in ("NoSchedule", "NoExecute") for taint in untolerated(pod, node))


def avoidance(pod: Pod, node: Node) -> float:
    return 100 / (1 + sum(taint.effect == "PreferNoSchedule" for taint in untolerated(pod, node)))


def means(term: PodTerm, owner: Pod, other: Pod) -> bool:
    """Whether the term of one pod selects another."""
    namespaces = term.namespaces or (owner.namespace,)
    return other.namespace in namespaces and all(expression_holds(one, other.labels) for one in term.selector)


def same_domain(topology: str, a: Node, b: Node) -> bool:
    return topology in a.labels and topology in b.labels and a.labels[topology] == b.labels[topology]


def pod_affinity(pod: Pod, node: Node, cluster: Cluster) -> bool:
    """The pod's own required affinity. One running pod has to be meant by all terms."""
    terms = pod.constraints.near
    if not terms:
        return True
    if any(term.topology not in node.labels for term in terms):
        return False
    meant = [(other, there) for there in cluster.nodes for other in cluster.on(there)
             if all(means(term, pod, other) for term in terms)]  # fmt: skip
    if all(any(same_domain(term.topology, node, there) for _, there in meant) for term in terms):
        return True
    anywhere = any(term.topology in there.labels for _, there in meant for term in terms)
    return not anywhere and all(means(term, pod, pod) for term in terms)


def pod_anti_affinity(pod: Pod, node: Node, cluster: Cluster) -> bool:
    """The pod's own terms, and those of running pods that select it."""
    for there in cluster.nodes:
        for other in cluster.on(there):
            if any(means(t, pod, other) and same_domain(t.topology, node, there) for t in pod.constraints.apart):
                return False
            if any(means(t, other, pod) and same_domain(t.topology, node, there) for t in other.constraints.apart):
                return False
    return True


def liking(pod: Pod, node: Node, cluster: Cluster) -> int:
    """Sum of weights, both ways; hardPodAffinityWeight is 1."""
    total = 0
    for there in cluster.nodes:
        for other in cluster.on(there):
            for a, b in ((pod, other), (other, pod)):
                wish = a.constraints
                for term, weight in (
                    *((t, t.weight) for t in wish.near_preferred),
                    *((t, -t.weight) for t in wish.apart_preferred),
                    *((t, 1) for t in (wish.near if a is other else ())),
                ):
                    if means(term, a, b) and same_domain(term.topology, node, there):
                        total += weight
    return total


def eligible(pod: Pod, spreads: Sequence[Spread], cluster: Cluster) -> list[Node]:
    return [
        node
        for node in cluster.nodes
        if all(node.labels.get(key) == value for key, value in pod.selector.items())
        and node_affinity(pod, node)
        and all(one.topology in node.labels for one in spreads)
    ]


def matching(pod: Pod, one: Spread, others: Sequence[Pod]) -> int:
    if not one.selector:
        return 0
    return sum(
        other.namespace == pod.namespace and all(expression_holds(e, other.labels) for e in one.selector)
        for other in others
    )


def ahead(pod: Pod, one: Spread, spreads: Sequence[Spread], node: Node, cluster: Cluster) -> int | None:
    """How many more pods match in the node's domain than in the least; None without the label."""
    if one.topology not in node.labels:
        return None
    counts: dict[str, int] = {}
    for there in eligible(pod, spreads, cluster):
        value = there.labels[one.topology]
        counts[value] = counts.get(value, 0) + matching(pod, one, cluster.on(there))
    least = min(counts.values(), default=0) if len(counts) >= one.least_domains else 0
    return counts.get(node.labels[one.topology], 0) - least


def topology_spread(pod: Pod, node: Node, cluster: Cluster) -> bool:
    hard = [one for one in pod.constraints.spread if one.hard]
    for one in hard:
        skew = ahead(pod, one, hard, node, cluster)
        if skew is None or skew + matching(pod, one, [pod]) > one.skew:
            return False
    return True


def evenness(pod: Pod, node: Node, cluster: Cluster) -> float | None:
    soft = [one for one in pod.constraints.spread if not one.hard]
    if not soft:
        return None
    skews = [ahead(pod, one, soft, node, cluster) for one in soft]
    told = [skew for skew in skews if skew is not None]
    if len(told) < len(soft):
        return 0.0
    return sum(100 * one.skew / (one.skew + max(0, skew)) for one, skew in zip(soft, told, strict=True)) / len(soft)
