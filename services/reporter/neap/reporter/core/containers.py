"""Which containers run here, told by the cgroup tree kubelet makes; both of its drivers, and below any prefix.

    cgroupfs   <root>/[burstable|besteffort/]pod<uid>/<id>                              root: kubepods, kubelet/kubepods
    systemd    <root>/[<stem>-burstable.slice/]<stem>[-burstable]-pod<uid, - as _>.slice/<runtime>-<id>.scope
               root: kubepods.slice, kubelet.slice/kubelet-kubepods.slice; stem: its last name without ".slice"

The first root that is there is used. Class directories are listed every report, a pod when it is new, when one of its
containers went silent, and every few reports. Interface files always have a dot in their name, cgroups of the
cgroupfs driver never. What a runtime makes below a container (init.scope, container) counts as part of it, as the
kernel counts it.
Source: kubernetes pkg/kubelet/cm (cgroup names); kernel documentation, admin-guide/cgroup-v2.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from neap.reporter.core.instruction import Listing

ROOT: Final = "/sys/fs/cgroup"
SLICE: Final = ".slice"
POD_LIMIT: Final = 1024
CONTAINER_LIMIT: Final = 64  # per pod
CONMON: Final = "crio-conmon-"  # a runtime's own process, beside the container


@dataclass(frozen=True, slots=True)
class Place:
    """One container: whose it is, its runtime's id, and its cgroup below ROOT."""

    uid: str
    container: str
    cgroup: str


@dataclass(slots=True)
class Pod:
    """A pod's cgroup; `due` is the round in which it is listed again."""

    uid: str
    due: int = 0
    containers: tuple[Place, ...] = ()


def classes_of(root: str) -> tuple[str, str, str]:
    """The directories below one root that pods live in, the root itself first."""
    if not root.endswith(SLICE):
        return root, f"{root}/burstable", f"{root}/besteffort"
    stem = root.rpartition("/")[2].removesuffix(SLICE)
    return root, f"{root}/{stem}-burstable{SLICE}", f"{root}/{stem}-besteffort{SLICE}"


@lru_cache(maxsize=4096)  # the same names are listed in every report
def pod_uid(name: str) -> str | None:
    """The uid in the name of a pod's cgroup, or None if it is none."""
    if name.startswith("pod") and "." not in name:
        return name[3:] or None
    if name.endswith(SLICE):
        above, found, uid = name.removesuffix(SLICE).rpartition("-pod")
        return uid.replace("_", "-") or None if found and "-" not in uid and "kubepods" in above else None
    return None


def container_id(name: str) -> str | None:
    """The runtime's id in the name of a container's cgroup, or None if it is none."""
    if name.endswith(".scope"):
        return None if name.startswith(CONMON) else name.removesuffix(".scope").rpartition("-")[2] or None
    return name if "." not in name else None


@dataclass
class Inventory:
    """Pods and containers known so far; folds listings."""

    relist_every: int
    roots: Sequence[str]  # absolute
    pods: dict[str, Pod] = field(default_factory=dict)  # by cgroup below ROOT
    dropped: int = 0  # pods and containers beyond the limits, in the last listings
    root: str = ""  # the one in use, below ROOT

    def classes(self) -> tuple[str, ...]:
        """Class directories to list: below the root in use, below all of them while none is known."""
        roots = [self.root] if self.root else [path.removeprefix(f"{ROOT}/") for path in self.roots]
        return tuple(path for root in roots for path in classes_of(root))

    def fold_classes(self, paths: Iterable[str], listings: Iterable[Listing]) -> None:
        """New pods are due at once, pods that are gone are forgotten."""
        listed = {path: names for path, names in zip(paths, listings, strict=True) if names is not None}
        roots = (path.removeprefix(f"{ROOT}/") for path in self.roots)
        self.root = next((root for root in roots if root in listed), "")
        seen: dict[str, Pod] = {}
        for path in classes_of(self.root) if self.root else ():
            for name in listed.get(path, ()):
                if (uid := pod_uid(name)) is not None:
                    cgroup = f"{path}/{name}"
                    seen[cgroup] = self.pods.get(cgroup) or Pod(uid)
        self.dropped = max(0, len(seen) - POD_LIMIT)
        self.pods = dict(sorted(seen.items())[:POD_LIMIT])

    def due(self, turn: int) -> tuple[str, ...]:
        """Pods to list in this round."""
        return tuple(cgroup for cgroup, pod in self.pods.items() if pod.due <= turn)

    def fold_pods(self, turn: int, cgroups: Iterable[str], listings: Iterable[Listing]) -> None:
        """Containers of the listed pods; the next look is spread out by the pod's position."""
        position = {cgroup: number for number, cgroup in enumerate(self.pods)}
        for cgroup, names in zip(cgroups, listings, strict=True):
            if (pod := self.pods.get(cgroup)) is None:
                continue
            found = [Place(pod.uid, id, f"{cgroup}/{name}") for name in names or () if (id := container_id(name))]
            self.dropped += max(0, len(found) - CONTAINER_LIMIT)
            spread = 0 if pod.due else position[cgroup] % self.relist_every
            pod.containers, pod.due = tuple(found[:CONTAINER_LIMIT]), turn + self.relist_every - spread

    def silent(self, place: Place) -> None:
        """A container's files are gone: its pod is listed in the next round."""
        if (pod := self.pods.get(place.cgroup.rpartition("/")[0])) is not None:
            pod.due = 0

    def places(self) -> list[Place]:
        """All known containers, by cgroup."""
        return [place for pod in self.pods.values() for place in pod.containers]

    def unknown(self) -> list[str]:
        """What cannot be told about containers, by name."""
        roots = ", ".join(path.removeprefix(f"{ROOT}/") for path in self.roots)
        found = [] if self.root else [f"pods: no cgroup v2 {roots} in {ROOT}"]
        return found + ([f"{self.dropped} pods or containers beyond the limits"] if self.dropped else [])
