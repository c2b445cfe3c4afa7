"""Who gets how much CPU: hierarchical weighted max-min fairness over overlapping sets of CPUs.

The fluid limit of the kernel's fair scheduler. Containers are leaves of the cgroup tree; each wants some cores and
may run on a set of CPUs. On CPUs that are contended, a group's part goes to its children by weight, what one does
not want goes to its siblings, and so on down the tree.

Feasible is what no set of CPUs is asked too much by those who can run only there (Hall, Gale): for every union U
of overlapping cpusets, Σ over leaves inside U ≤ |U|. The fair point is found by decomposition: pour |U| down the
tree of an overloaded U; if a smaller union inside is overrun by that, it is the tighter one and goes first; the
leaves of the tightest are settled, the rest repeats without them (Fujishige 1980, for flat weights exact).

Laws: Σ used ≤ CPUs · no CPU idles while somebody allowed on it wants more · two siblings that want more and run on
the same CPUs get parts in proportion to their weights · nobody gets more than wanted or than a quota above allows.
Not modelled: a group that competes in several disjoint places brings its full weight to each (the kernel splits
it by load); slices, wake-up delays and migrations; siblings of a core slowing each other.
Source: Linux sched-design-CFS.rst, cgroup-v2.rst "CPU"; S. Fujishige, Math. Oper. Res. 5 (1980) 186-196.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import inf
from typing import Final

from neap.common.units import Cores
from neap.virtual.flow import Flow

UNIONS_LIMIT: Final = 256  # distinct unions of overlapping cpusets; beyond, parts that do not fit are cut back
TINY: Final = 1e-9
SLACK: Final = 1e-6  # cores; what rounding may leave over


class Share:
    """A node of the weight tree. Leaves want; `cpus` counts on leaves only."""

    __slots__ = ("allowed", "children", "cpus", "gets", "limit", "quota", "wants", "weight")

    def __init__(self, weight: float = 100.0, *, cpus: Iterable[int] = (), wants: Cores = 0.0) -> None:
        self.weight = weight
        self.quota: Cores = inf
        self.children: list[Share] = []
        self.cpus = frozenset(cpus)
        self.wants = wants  # of a group with a quota: what its leaves were allowed before it
        self.allowed: Cores = 0.0  # wanted, cut by the quotas above
        self.gets: Cores = 0.0
        self.limit: Union | None = None  # where it was settled because CPUs were short

    def leaves(self) -> Iterator[Share]:
        """The leaves below, or itself."""
        if not self.children:
            yield self
        for child in self.children:
            yield from child.leaves()


class Branch:
    """The weight tree cut down to some leaves; a chain of only children is one branch."""

    __slots__ = ("above", "asks", "children", "leaf", "steepest", "weight")

    def __init__(self, weight: float, leaf: Share | None, children: list[Branch]) -> None:
        self.weight, self.leaf, self.children = weight, leaf, children
        self.above: Branch | None = None
        self.asks: Cores = 0.0
        self.steepest = 0.0  # largest asks / weight among the children
        for child in children:
            child.above = self

    def gather(self) -> Cores:
        """Sum up what the leaves not yet settled ask."""
        if self.leaf is not None:
            self.asks = self.leaf.allowed if self.leaf.limit is None else 0.0
        else:
            self.asks = sum([child.gather() for child in self.children])
        return self.asks

    def expect(self, size: float) -> Cores:
        """Sum up what the leaves would ask if cores of a set of this size were given away anew."""
        leaf = self.leaf
        if leaf is not None:
            self.asks = leaf.gets if leaf.limit is not None and leaf.limit.size < size else leaf.allowed
        else:
            self.asks = sum([child.expect(size) for child in self.children])
            self.steepest = max(child.asks / child.weight for child in self.children)
        return self.asks

    def pour(self, amount: Cores) -> None:
        """Give `amount` to the leaves: by weight, never more than asked, what is refused goes to the siblings."""
        leaf = self.leaf
        if leaf is not None:
            if leaf.limit is None:
                leaf.gets = min(amount, self.asks)
            return
        if amount >= self.asks:
            for child in self.children:
                child.pour(child.asks)
            return
        weight = sum([child.weight for child in self.children])
        for child in sorted(self.children, key=_steepness):
            part = min(child.asks, amount * child.weight / weight)
            child.pour(part)
            amount -= part
            weight = max(weight - child.weight, TINY)

    def alone(self, amount: Cores) -> Cores:
        """What this branch would get of its parent's `amount` if it asked for everything."""
        parent = self.above
        if parent is None:
            return amount
        rest = amount - (parent.asks - self.asks)
        if rest >= self.weight * parent.steepest:
            return rest
        weight = sum([child.weight for child in parent.children])
        for child in sorted(parent.children, key=_steepness):
            if child is self:
                continue
            if child.asks * weight > child.weight * amount:
                break
            amount -= child.asks
            weight -= child.weight
        return amount * self.weight / weight


class Union:
    """Overlapping cpusets taken together, with the weight tree of who can run only there."""

    __slots__ = ("branch_of", "expected", "leaves", "members", "size", "top")

    def __init__(self, root: Share, cpus: frozenset[int], parts: Sequence[frozenset[int]]) -> None:
        self.members = frozenset(i for i, part in enumerate(parts) if part <= cpus)
        self.size = float(len(cpus))
        self.branch_of: dict[Share, Branch] = {}
        top = cut(root, cpus, self.branch_of)
        assert top is not None, "a union is made of leaves' cpusets"
        self.top = top
        self.leaves = [share for share in self.branch_of if not share.children]
        self.expected = False  # whether `expect` was done since the last step


def cut(share: Share, cpus: frozenset[int] | None, branch_of: dict[Share, Branch]) -> Branch | None:
    """The weight tree below `share` with the leaves that run only on `cpus` (None: all), and whose branch is whose."""
    if not share.children:
        if not share.cpus or not (cpus is None or share.cpus <= cpus):
            return None
        branch = Branch(share.weight, share, [])
    else:
        below = [kept for child in share.children if (kept := cut(child, cpus, branch_of)) is not None]
        if not below:
            return None
        branch = below[0] if len(below) == 1 else Branch(share.weight, None, below)
        branch.weight = share.weight
    branch_of[share] = branch
    return branch


def _steepness(branch: Branch) -> float:
    return branch.asks / branch.weight


class Layout:
    """The standing part of the arithmetic: made anew when cgroups, cpusets, weights or quotas change."""

    def __init__(self, root: Share) -> None:
        self.leaves = [leaf for leaf in root.leaves() if leaf.cpus]
        self.parts = sorted({leaf.cpus for leaf in self.leaves}, key=lambda part: (len(part), sorted(part)))
        self._part_of = {part: i for i, part in enumerate(self.parts)}
        self._members: list[list[Share]] = [[leaf for leaf in self.leaves if leaf.cpus == part] for part in self.parts]
        self.unions = [Union(root, cpus, self.parts) for cpus in _closure(self.parts)]  # smallest first
        self._quotas = _with_quota(root)
        self._flow = Flow(self.parts)

    def share(self) -> None:
        """Set `gets` of every leaf from what the leaves want."""
        for leaf in self.leaves:
            leaf.allowed = min(leaf.wants, leaf.quota)
            leaf.limit = None
        for group, branch in self._quotas:
            group.wants = branch.gather()
            if group.wants > group.quota:
                branch.pour(group.quota)
                for leaf in group.leaves():
                    leaf.allowed = leaf.gets
        for leaf in self.leaves:
            leaf.gets = leaf.allowed
        asked = [sum([leaf.allowed for leaf in members]) for members in self._members]
        for union in self.unions:
            union.expected = False
        for union in reversed(self.unions):
            while sum([asked[i] for i in union.members]) > union.size + TINY and self._settle(union):
                asked = [sum([leaf.gets for leaf in members]) for members in self._members]

    def _settle(self, union: Union) -> bool:
        """Settle the leaves of the tightest set inside an overloaded one; false when all were settled before."""
        tight: Union | None = union
        while tight is not None:
            union = tight
            room = union.size - sum([leaf.gets for leaf in union.leaves if leaf.limit is not None])
            union.top.gather()
            union.top.pour(max(0.0, room))
            inside = (inner for inner in self.unions if inner.members < union.members)
            excess, tight = max(((self._excess(inner), inner) for inner in inside), key=_first, default=(0.0, None))
            if excess <= TINY:
                break
        settled = [leaf for leaf in union.leaves if leaf.limit is None]
        for leaf in settled:
            leaf.limit = union
        for leaf in self.leaves:
            if leaf.limit is None:
                leaf.gets = leaf.allowed
        return bool(settled)

    def busy(self) -> list[tuple[tuple[int, ...], Cores]]:
        """CPUs that do the same work, and the cores they do together.

        Past UNIONS_LIMIT a part may have been promised more than fits; its leaves are cut back here.
        """
        cores = [sum([leaf.gets for leaf in members]) for members in self._members]
        placed, missing = self._flow.place(cores)
        for members, total, lost in zip(self._members, cores, missing, strict=True):
            if lost > SLACK:
                for leaf in members:
                    leaf.gets *= 1.0 - lost / total
        return list(zip(self._flow.atoms, placed, strict=True))

    @staticmethod
    def _excess(union: Union) -> float:
        return sum([leaf.gets for leaf in union.leaves]) - union.size

    def at_once(self, share: Share) -> Cores:
        """Cores a leaf, or a group whose leaves have one cpuset, could have at once, given everybody's weights.

        The tightest of the unions it runs in, each poured out with it asking for everything: exact where cpusets
        do not overlap, a close guess where they do. Quotas of its own are the caller's business. Costs O(depth)
        when there is slack, O(siblings) else.
        """
        part = next((self._part_of.get(leaf.cpus) for leaf in share.leaves() if leaf.cpus), None)
        best = inf
        for union in self.unions:
            if part in union.members and share in union.branch_of:
                if not union.expected:
                    union.top.expect(union.size)
                    union.expected = True
                path = [union.branch_of[share]]
                while (above := path[-1].above) is not None:
                    path.append(above)
                amount = union.size
                for branch in reversed(path):
                    amount = branch.alone(amount)
                best = min(best, amount)
        return max(sum([leaf.gets for leaf in share.leaves()]), best if best < inf else 0.0)


def _first(pair: tuple[float, Union]) -> float:
    return pair[0]


def _closure(parts: Sequence[frozenset[int]]) -> list[frozenset[int]]:
    """The parts and all unions of overlapping ones, smallest first; at most UNIONS_LIMIT (and then the whole)."""
    found = dict.fromkeys(parts)
    pending = list(parts)
    while pending and len(found) < UNIONS_LIMIT:
        cpus = pending.pop()
        for part in parts:
            if cpus & part and (union := cpus | part) not in found:
                found[union] = None
                pending.append(union)
    if pending:
        found[frozenset().union(*parts)] = None
    return sorted(found, key=lambda cpus: (len(cpus), sorted(cpus)))


def _with_quota(share: Share) -> list[tuple[Share, Branch]]:
    """Groups that have a quota, inner ones first, each with its tree."""
    if not share.children:
        return []
    found = [pair for child in share.children for pair in _with_quota(child)]
    if share.quota < inf and (branch := cut(share, None, {})) is not None:
        found.append((share, branch))
    return found
