"""Who a pod belongs to in the end: the Deployment, not its ReplicaSet of the week; the CronJob, not tonight's Job.

    Pod -> ReplicaSet -> Deployment           Pod -> Job -> CronJob           everything else is an end

A chain is followed through what is known of ReplicaSets and Jobs, at most DEPTH steps and never in a circle. A
ReplicaSet of a Deployment is known by its name alone: it is the Deployment's and the pods' label pod-template-hash.
Source: Kubernetes documentation, "Owners and Dependents"; Deployment controller (names of ReplicaSets).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from neap.common.kube.objects import Metadata, OwnerReference

DEPTH: Final = 8
BETWEEN: Final = frozenset({"ReplicaSet", "Job"})  # kinds that are made by another one
HASH: Final = "pod-template-hash"


class Owned(NamedTuple):
    """What was read of a ReplicaSet or Job: its controller, by kind, name and uid; all empty if it has none."""

    kind: str
    name: str
    uid: str


NOBODY: Final = Owned("", "", "")


class Owners:
    """See module docstring. By uid; about 300 bytes each."""

    def __init__(self) -> None:
        self._above: dict[str, Owned] = {}

    def __len__(self) -> int:
        return len(self._above)

    def learn(self, meta: Metadata) -> None:
        """A ReplicaSet or Job was seen."""
        above = controller_of(meta)
        self._above[meta.uid] = Owned(above.kind, above.name, above.uid) if above is not None else NOBODY

    def forget(self, uid: str) -> None:
        """It is gone."""
        self._above.pop(uid, None)

    def knows(self, meta: Metadata) -> bool:
        """Whether the pod's chain can be followed without knowing more."""
        first = controller_of(meta)
        return first is None or first.kind not in BETWEEN or first.uid in self._above or bool(_by_name(meta, first))

    def of(self, meta: Metadata) -> str:
        """Such as Deployment/cart; empty for a pod that nobody owns."""
        first = controller_of(meta)
        if first is None:
            return ""
        at, been = Owned(first.kind, first.name, first.uid), {first.uid}
        while at.kind in BETWEEN and len(been) <= DEPTH:
            above = self._above.get(at.uid)
            if above is None:
                return (
                    _by_name(meta, first) if at.uid == first.uid and _by_name(meta, first) else f"{at.kind}/{at.name}"
                )
            if above == NOBODY or above.uid in been:
                break
            been.add(above.uid)
            at = above
        return f"{at.kind}/{at.name}"


def controller_of(meta: Metadata) -> OwnerReference | None:
    """The one owner that is the controller; else the first."""
    owners = meta.owner_references or ()
    return next((owner for owner in owners if owner.controller), owners[0] if owners else None)


def _by_name(meta: Metadata, owner: OwnerReference) -> str:
    mark = f"-{(meta.labels or {}).get(HASH, '')}"
    if owner.kind == "ReplicaSet" and len(mark) > 1 and owner.name.endswith(mark) and len(owner.name) > len(mark):
        return f"Deployment/{owner.name.removesuffix(mark)}"
    return ""
