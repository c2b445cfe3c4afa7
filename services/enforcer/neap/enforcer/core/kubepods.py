"""From "pod/<uid>" to a path: how the kubelet names cgroups, for both of its drivers.

                   cgroupfs                systemd
    class          kubepods/besteffort     kubepods.slice/kubepods-besteffort.slice
    pod            <class>/pod<uid>        <class>/kubepods-besteffort-pod<uid, "_" for "-">.slice
    guaranteed     kubepods/pod<uid>       kubepods.slice/kubepods-pod<uid, "_" for "-">.slice
    container      <pod>/<id>              <pod>/cri-containerd-<id>.scope

Beside them stand the resctrl groups of the node, as targets "resctrl/<group>".

Paths are only ever *found* by listing, never put together from a message, so no message can point elsewhere.
Source: kubernetes pkg/kubelet/cm/cgroup_manager_linux.go (names).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Final

from neap.common.errors import InputError
from neap.enforcer.core.rdt import RESCTRL

SLICE: Final = ".slice"
GUARANTEED: Final = "guaranteed"  # its pods hang from the root itself
CLASSES: Final = (GUARANTEED, "burstable", "besteffort")
OF_RESCTRL: Final = "resctrl/"
_TARGET: Final = re.compile(r"(pod|class)/([A-Za-z0-9_.-]{1,128})")


def class_named(name: str) -> str:
    """The class a directory below the root stands for, or ""."""
    last = name.removesuffix(SLICE).rpartition("-")[2]
    return last if last in CLASSES[1:] else ""


def pod_named(name: str) -> str:
    """The uid a directory's name carries, as the driver spells it, or ""."""
    bare = name.removesuffix(SLICE)
    last = bare.rpartition("-")[2] if bare != name else bare
    return last.removeprefix("pod") if last.startswith("pod") else ""


def containers_in(pod: str, names: Iterable[str]) -> tuple[str, ...]:
    """The paths of those names in a pod that are cgroups; the kernel's own files all have a dot."""
    return tuple([f"{pod}/{name}" for name in names if "." not in name or name.endswith(".scope")])


@lru_cache(maxsize=1024)
def check_target(target: str) -> tuple[str, str]:
    """("pod", uid) or ("class", name).

    Raises:
        InputError: neither, or with a character that no uid has.
    """
    match = _TARGET.fullmatch(target)
    if match is None or (match[1] == "class" and match[2] not in CLASSES):
        known = ", ".join(f"class/{name}" for name in CLASSES)
        raise InputError(f"no target: {target[:80]!r} (pod/<uid>, {known})")
    return match[1], match[2]


@dataclass(frozen=True)
class Tree:
    """The cgroups of one node's pods, as listed."""

    root: str
    classes: Mapping[str, str]
    pods: Mapping[str, str]  # by uid, as the driver spells it
    containers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # by the pod's path, where asked for
    groups: tuple[str, ...] | None = None  # resctrl groups; None: not asked for, or not mounted

    def path_of(self, target: str) -> str | None:
        """The host path of a target that passed `check_target`; None while there is no such cgroup."""
        if target not in self._targets:
            self._targets[target] = self._path_of(target)
        return self._targets[target]

    def _path_of(self, target: str) -> str | None:
        if target.startswith(OF_RESCTRL):
            return None if self.groups is None else f"{RESCTRL}/{target.removeprefix(OF_RESCTRL)}".rstrip("/")
        kind, name = check_target(target)
        if kind == "class":
            return self.root if name == GUARANTEED else self.classes.get(name)
        return self.pods.get(name.replace("-", "_") if self.root.endswith(SLICE) else name)

    def above(self, cgroup: str) -> tuple[str, ...]:
        """The ancestors of a cgroup up to the root, nearest first."""
        found = []
        while cgroup != self.root and cgroup.startswith(self.root + "/"):
            cgroup = cgroup.rpartition("/")[0]
            found.append(cgroup)
        return tuple(found)

    def has(self, cgroup: str) -> bool:
        """Whether a cgroup, or a resctrl group, was listed."""
        return cgroup in self._paths

    def is_like(self, other: Tree) -> bool:
        """Whether both have the same pods, whatever is in them."""
        return (self.root, self.classes, self.pods) == (other.root, other.classes, other.pods)

    def folders(self) -> tuple[str, ...]:
        """Every directory in which a cgroup may come or go."""
        inside = (container for containers in self.containers.values() for container in containers)
        return (self.root, *self.classes.values(), *self.pods.values(), *inside)

    @cached_property
    def _targets(self) -> dict[str, str | None]:
        """Paths found before; a tree is asked for the same ones again and again."""
        return {}

    @cached_property
    def _paths(self) -> frozenset[str]:
        groups = () if self.groups is None else (RESCTRL, *(f"{RESCTRL}/{name}" for name in self.groups))
        return frozenset((*self.folders(), *groups))
