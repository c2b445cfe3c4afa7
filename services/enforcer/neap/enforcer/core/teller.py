"""What has been said, and so what is still to be said: Applied, pods' trails, the node's enforcement.

Nothing is said twice: writes once, what the kernel lacks once per knob, the rest when it changes; and every
`repeat_every` looks that nothing has, because Applied may be lost on its way.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from neap.common.contract.catalogue import ENFORCEMENT, NODE_APPLIED
from neap.common.model.advice import Applied, CgroupAdvice, KnobWrite
from neap.common.model.enforcement import NodeEnforcement
from neap.common.runtime.machine import Instruction, Publish, Put
from neap.common.units import Seconds
from neap.enforcer.core.kubepods import Tree
from neap.enforcer.core.plan import Plan
from neap.enforcer.core.story import applied_line, changes, lost_share

LONGEST: Final = 1000  # writes in one message; about 200 KiB


class Teller:
    """See module docstring. `told` are cgroups whose first application was told by an earlier life."""

    def __init__(self, node: str, repeat_every: int, told: Iterable[str]) -> None:
        self._node, self._repeat_every = node, repeat_every
        self._told = set(told)
        self._untold: list[KnobWrite] = []  # to be said with the next Applied
        self._said = (0, False)  # advice and whether the node is back, as said last
        self._quiet = 0  # looks since then
        self._enforcement: NodeEnforcement | None = None

    def add(self, writes: Iterable[KnobWrite]) -> None:
        """To be said with the next Applied."""
        self._untold += writes

    def applied(self, at: Seconds, seq: int, *, restored: bool) -> Sequence[Instruction]:
        """Applied, if there is anything to say."""
        told, self._untold = self._untold, []
        self._quiet += 1
        if not told and self._said == (seq, restored) and self._quiet < self._repeat_every:
            return ()
        self._said, self._quiet = (seq, restored), 0
        pages = [told[start : start + LONGEST] for start in range(0, len(told), LONGEST)] or [[]]
        to = NODE_APPLIED.at(node=self._node)
        return [
            Publish(
                to,
                Applied(
                    at=at,
                    source="enforcer",
                    node=self._node,
                    advice_seq=seq,
                    writes=tuple(page),
                    restored=restored and page is pages[-1],
                ),
            )
            for page in pages
        ]

    def enforcement(self, told: NodeEnforcement) -> Sequence[Instruction]:
        """The node's enforcement, if it is another than said before."""
        before = self._enforcement
        if before is not None and msgspec.structs.replace(told, at=before.at) == before:
            return ()
        self._enforcement = told
        return (Put(ENFORCEMENT.at(node=self._node), told),)

    def forget_enforcement(self) -> None:
        """The bus did not take it: say it again."""
        self._enforcement = None

    def pods(
        self, cgroups: Iterable[CgroupAdvice], tree: Tree, plan: Plan, writes: Sequence[KnobWrite], *,
        at: Seconds, seq: int, shrink_told: float,
    ) -> list[Instruction]:  # fmt: skip
        """A pod's trail: the first time its advice is true, and when it loses a good part of its CPUs."""
        said: list[Instruction] = []
        self._told.intersection_update(tree.pods.values())
        for cgroup in cgroups:
            path = tree.path_of(cgroup.target)
            if path is None or cgroup.about is None:
                continue
            first = path not in self._told
            if not first and not writes:
                continue
            changed, sets = changes(writes, path), plan.sets.get(path)
            if first or ("cpuset.cpus" in changed and lost_share(sets) >= shrink_told):
                self._told.add(path)
                said.append(applied_line(cgroup, changed, sets, at=at, node=self._node, seq=seq, first=first))
        return said
