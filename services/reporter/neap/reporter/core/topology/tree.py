"""Nest groups of CPUs into one tree of zones by containment.

Larger groups are outside; between equal ones the order of ZoneKind decides. A group whose CPUs do not lie in one
zone contradicts what is already there: it is named in the warnings and left out.
Cost: O(sum of the groups' sizes).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from neap.common.cpuset import format_cpuset
from neap.common.model.resource import Resources
from neap.common.model.topology import Zone, ZoneKind
from neap.reporter.core.topology.cpus import Group
from neap.reporter.core.topology.text import Cpus

RANK: Mapping[ZoneKind, int] = {kind: rank for rank, kind in enumerate(ZoneKind)}


@dataclass
class Branch:
    """A zone being built."""

    kind: ZoneKind
    index: int
    cpus: Cpus
    capacity: Resources = field(default_factory=dict)
    allocatable: Resources = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)
    children: list[Branch] = field(default_factory=list)

    def zone(self) -> Zone:
        """The finished zone; children by kind, lowest CPU and index."""
        ordered = sorted(self.children, key=lambda b: (RANK[b.kind], min(b.cpus, default=1 << 30), b.index))
        return Zone(
            kind=self.kind,
            index=self.index,
            cpus=format_cpuset(self.cpus),
            capacity=self.capacity,
            allocatable=self.allocatable,
            attributes=self.attributes,
            children=tuple(branch.zone() for branch in ordered),
        )


def nest(root: Branch, groups: Iterable[Group], warnings: list[str]) -> list[Branch]:
    """Hang every group below `root`; returns the branches, outer before inner."""
    innermost = dict.fromkeys(root.cpus, root)
    found: list[Branch] = []
    for group in sorted(groups, key=lambda g: (-len(g.cpus), RANK[g.kind], g.index, sorted(g.cpus)[:1])):
        if not group.cpus:
            continue
        around = {id(branch): branch for branch in (innermost[cpu] for cpu in sorted(group.cpus))}
        if len(around) > 1:
            cpus = format_cpuset(group.cpus)
            warnings.append(f"{group.kind} {group.index} ({cpus}) left out of the tree: it crosses other zones")
            continue
        branch = Branch(group.kind, group.index, group.cpus)
        if group.note:
            branch.attributes["size"] = group.note
        next(iter(around.values())).children.append(branch)
        innermost.update(dict.fromkeys(group.cpus, branch))
        found.append(branch)
    return found
