"""Which CPUs do the work: the cores each cpuset got, laid onto its CPUs.

CPUs that belong to the same cpusets are one atom; within an atom all CPUs do the same. Small cpusets are placed
first, each in proportion to the room left on its atoms; where overlaps block the way, work already placed is moved
over (augmenting paths), so that everything fits whenever it can.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from neap.common.units import Cores

TINY: Final = 1e-9


class Flow:
    """The atoms of some cpusets. `place` costs O(cpusets × atoms) when nothing blocks."""

    def __init__(self, parts: Sequence[frozenset[int]]) -> None:
        groups: dict[tuple[int, ...], list[int]] = {}
        for cpu in sorted(frozenset().union(*parts)):
            groups.setdefault(tuple(i for i, part in enumerate(parts) if cpu in part), []).append(cpu)
        self.atoms = [tuple(cpus) for cpus in groups.values()]
        self._atoms_of = [[a for a, members in enumerate(groups) if i in members] for i in range(len(parts))]

    def place(self, cores: Sequence[Cores]) -> tuple[list[Cores], list[Cores]]:
        """Cores per part (in their order, smallest part first) -> cores busy per atom, cores that found no room."""
        room = [float(len(atom)) for atom in self.atoms]
        placed = [dict.fromkeys(atoms, 0.0) for atoms in self._atoms_of]
        missing = [0.0] * len(placed)
        for part, amount in enumerate(cores):
            atoms = self._atoms_of[part]
            free = sum([room[a] for a in atoms])
            fill = min(1.0, amount / free) if free > TINY else 0.0
            for a in atoms:
                placed[part][a] = room[a] * fill
                room[a] -= room[a] * fill
            left = amount - free * fill
            while left > TINY and (moved := self._push(part, left, room, placed, set())) > TINY:
                left -= moved
            missing[part] = max(0.0, left)
        return [len(atom) - left for atom, left in zip(self.atoms, room, strict=True)], missing

    def _push(
        self, part: int, amount: Cores, room: list[Cores], placed: list[dict[int, Cores]], seen: set[int]
    ) -> Cores:
        """Place up to `amount` of a part, moving others out of its way; returns what was placed."""
        for a in self._atoms_of[part]:
            if a in seen:
                continue
            seen.add(a)
            if room[a] <= TINY:
                for other, atoms in enumerate(placed):
                    if other != part and atoms.get(a, 0.0) > TINY:
                        moved = self._push(other, min(amount, atoms[a]), room, placed, seen)
                        atoms[a] -= moved
                        room[a] += moved
                        if moved > TINY:
                            break
            if (taken := min(amount, room[a])) > TINY:
                placed[part][a] += taken
                room[a] -= taken
                return taken
        return 0.0
