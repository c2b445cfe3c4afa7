"""What neap may ask of the Kubernetes API: one table, verb by verb, each with its reason. Only the gateway asks.

From it are generated the roles in deploy/k8s/base/cluster/gateway-role.yaml and, for clusters that want taints or that
plans are carried out, deploy/k8s/components/{taints,plans}. Nobody reads secrets or deletes anything; nobody writes
workloads but where components/plans lets him.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from neap.common.kube import katalyst, objects
from neap.common.kube.crd import DEFINITIONS
from neap.common.kube.kind import Kind

ACCOUNT: Final = "neap-gateway"
NAMESPACE: Final = "neap-system"
READ: Final = ("get", "list", "watch")
LEASE: Final = "neap-gateway"
GROUP: Final = "rbac.authorization.k8s.io"
WORDS: Final = ("apiVersion", "kind")


@dataclass(frozen=True)
class Grant:
    """Verbs on one resource. `namespace`: only there; `names`: only those objects."""

    kind: Kind[Any]
    verbs: tuple[str, ...]
    why: str
    subresource: str = ""
    namespace: str = ""
    names: tuple[str, ...] = ()

    @property
    def resource(self) -> str:
        """As roles name it."""
        return f"{self.kind.plural}/{self.subresource}" if self.subresource else self.kind.plural


GRANTS: Final = (
    Grant(objects.PODS, READ, "who waits for a node, who runs where, who has gone"),
    Grant(objects.PODS, ("create",), "to place pods that name neap as their scheduler", "binding"),
    Grant(objects.PODS, ("create",), "to end guests' runs, within budgets", "eviction"),
    Grant(objects.PODS, ("patch",), "to change requests and limits of running pods", "resize"),
    Grant(objects.NODES, READ, "labels, taints, allocatable"),
    Grant(objects.NODES, ("patch",), "extended resources: what a node lends", "status"),
    Grant(objects.REPLICA_SETS, READ, "whose pods they are"),
    Grant(objects.DEPLOYMENTS, READ, "whose pods they are, how many, and of which size those to come should be"),
    Grant(objects.STATEFUL_SETS, READ, "whose pods they are, how many, and of which size those to come should be"),
    Grant(objects.DAEMON_SETS, READ, "whose pods they are, how many, and of which size those to come should be"),
    Grant(objects.AUTOSCALERS, READ, "whose replicas somebody else counts"),
    Grant(objects.JOBS, READ, "whose pods they are"),
    Grant(objects.BUDGETS, READ, "not to ask for evictions that are refused"),
    Grant(objects.EVENTS, ("create", "patch"), "to say on pods and nodes what was decided, and why"),
    *(
        Grant(one.kind, READ, "what people tell neap")
        for one in DEFINITIONS
        if one.kind is not katalyst.NODE_MIRRORS
    ),
    *(
        Grant(one.kind, ("patch",), "to say what became of it", "status")
        for one in DEFINITIONS
        if one.kind is not katalyst.NODE_MIRRORS
    ),
    Grant(katalyst.NODE_MIRRORS, (*READ, "create", "patch"), "the mirror of each node: applied, found again"),
    Grant(katalyst.NODE_MIRRORS, ("patch",), "what each node lends and uses", "status"),
    Grant(objects.LEASES, ("create",), "who of several gateways acts (a name cannot be demanded of what is new)", namespace=NAMESPACE),
    Grant(objects.LEASES, ("get", "update", "patch"), "who of several gateways acts", namespace=NAMESPACE, names=(LEASE,)),
)  # fmt: skip
TAINTS: Final = (
    Grant(objects.NODES, ("patch",), "taints under pressure, labels and taints of tides, for pods that others place"),
)
PLANS: Final = (
    Grant(objects.DEPLOYMENTS, ("patch",), "the size of its pods, where somebody has one applied"),
    Grant(objects.STATEFUL_SETS, ("patch",), "the size of its pods, where somebody has one applied"),
    Grant(objects.DAEMON_SETS, ("patch",), "the size of its pods, where somebody has one applied"),
    Grant(objects.DEPLOYMENTS, ("patch",), "replicas of what is scaled by a plan (mode auto)", "scale"),
    Grant(objects.STATEFUL_SETS, ("patch",), "replicas of what is scaled by a plan (mode auto)", "scale"),
)


def roles(grants: Iterable[Grant], name: str) -> Iterator[dict[str, Any]]:
    """A role for the whole cluster, one per namespace named, and their bindings to the gateway's account."""
    places: dict[str, list[Grant]] = {}
    for grant in grants:
        places.setdefault(grant.namespace, []).append(grant)
    for namespace, some in places.items():
        kind = "Role" if namespace else "ClusterRole"
        metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
        head = {"apiVersion": f"{GROUP}/v1", "metadata": metadata}
        yield {**head, "kind": kind, "rules": [rule(grant) for grant in some]}
        yield {
            **head,
            "kind": f"{kind}Binding",
            "roleRef": {"apiGroup": GROUP, "kind": kind, "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": NAMESPACE}],
        }


def rule(grant: Grant) -> dict[str, Any]:
    """As a role has it."""
    found: dict[str, Any] = {"apiGroups": [grant.kind.group], "resources": [grant.resource], "verbs": list(grant.verbs)}
    return {**found, "resourceNames": list(grant.names)} if grant.names else found


def told(grants: Iterable[Grant], name: str) -> str:
    """The roles as YAML, each rule with its reason."""
    every, lines = list(grants), list[str]()
    reasons = iter(sorted(every, key=lambda grant: [one.namespace for one in every].index(grant.namespace)))
    for role in roles(every, name):
        lines.append("---")
        for key in ("apiVersion", "kind", "metadata", "roleRef", "subjects"):
            if key in role:
                lines.append(f"{key}: {json.dumps(role[key]) if key not in WORDS else role[key]}")
        if "rules" in role:
            lines.append("rules:")
            said = ""
            for line in role["rules"]:
                why = next(reasons).why
                lines += [] if why == said else [f"  # {why}"]
                lines.append(f"  - {json.dumps(line)}")
                said = why
    return "\n".join(lines) + "\n"
