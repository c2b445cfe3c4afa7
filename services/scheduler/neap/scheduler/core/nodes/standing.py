"""One pod among those that run: per domain where it may go and how it is liked there, and what decides of that.

Everything is an array by the number of a label's value (core/nodes/labels.py); cell 0 stands for nodes without the label.

    spread    skew(d) = matching(d) + own − least          least = min over the area's domains, 0 if they are too few
    near      one pod that all its terms mean is in the node's domain of each term; or nobody is anywhere, and the
              terms mean the pod itself: the first of its kind
    apart     nobody a term means is in the domain; nobody there says it of this pod
    liking    Σ weight · matching(d), of its own terms and of what running pods say of it

Source: Kubernetes documentation and kube-scheduler (PodTopologySpread, InterPodAffinity); spreads count pods of the
pod's namespace on nodes its selector and node affinity accept (nodeAffinityPolicy Honor, nodeTaintsPolicy Ignore).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neap.common.model.scheduling import NOBODY, Expression, NodeTerm, Operator, PodTerm, Spread
from neap.scheduler.core.nodes.crowds import Among, Area, Tally, all_have, among
from neap.scheduler.core.nodes.labels import Key
from neap.scheduler.core.nodes.view import Mask, Numbers
from neap.scheduler.core.pods.pod import Pod

if TYPE_CHECKING:
    from neap.scheduler.core.nodes.domains import Domains

Integers = NDArray[np.int64]
NO_PODS: Final = (NOBODY,)  # a spread that selects by nothing counts nobody, as in kube-scheduler


class Skewed(NamedTuple):
    """One hard spread."""

    spread: Spread
    key: Key
    passes: Mask
    skew: Integers  # if the pod went there
    counts: Integers
    least: int


class Evened(NamedTuple):
    """One soft spread: 100 · skew / (skew + matching − least)."""

    key: Key
    score: Numbers


class Beside(NamedTuple):
    """One term of required affinity or anti-affinity, or what running pods say, over one label."""

    topology: str
    key: Key
    passes: Mask
    counts: Integers


class Liked(NamedTuple):
    """How the domains of one label are liked."""

    key: Key
    sums: Integers


@dataclass(frozen=True, slots=True)
class Standing:
    """See module docstring. `low` and `span` of liking over all domains; `first`: nobody is there to be near to."""

    key: Hashable
    hard: tuple[Skewed, ...] = ()
    soft: tuple[Evened, ...] = ()
    near: tuple[Beside, ...] = ()
    first: bool = False
    apart: tuple[Beside, ...] = ()
    shunned: tuple[Beside, ...] = ()
    liked: tuple[Liked, ...] = ()
    low: int = 0
    span: int = 0


def area_of(pod: Pod) -> tuple[tuple[Expression, ...], tuple[NodeTerm, ...]]:
    """What a pod's node selector and required node affinity say."""
    selected = sorted(pod.workload.node_selector.items())
    selector = tuple(Expression(key=key, operator=Operator.IN, values=(value,)) for key, value in selected)
    return selector, pod.workload.constraints.node_required


def standing(pod: Pod, domains: Domains) -> Standing | None:
    """How a pod stands now; None to nobody."""
    wish = pod.workload.constraints
    key: list[Hashable] = []
    hard = _hard(pod, domains, key) if wish.spread else ()
    soft = _soft(pod, domains, key) if wish.spread else ()
    near, first = _near(pod, domains, key) if wish.near else ((), False)
    apart = tuple(_apart(term, pod, domains, key) for term in wish.apart)
    shunned = _shunned(pod, domains, key)
    liked, low, span = _liked(pod, domains, key)
    if not (hard or soft or near or apart or shunned or span):
        return None
    return Standing(tuple(key), hard, soft, near, first, apart, shunned, liked, low, span)


def _spreads(pod: Pod, domains: Domains, *, hard: bool) -> list[tuple[Spread, Tally, Integers, int]]:
    """Each spread of one kind, its tally, how many match by domain, and the least of them."""
    spreads = [spread for spread in pod.workload.constraints.spread if spread.hard is hard]
    if not spreads:
        return []
    area = domains.area(pod, tuple(sorted({spread.topology for spread in spreads})))
    return [(spread, *_counted(spread, pod, domains, area)) for spread in spreads]


def _counted(spread: Spread, pod: Pod, domains: Domains, area: Area) -> tuple[Tally, Integers, int]:
    who = (Among((pod.workload.namespace,), spread.selector or NO_PODS),)
    tally = domains.tally(who, spread.topology, area)
    size = len(tally.key.values)
    counts = tally.counts.upto(size)
    there = counts[1:][area.sizes[spread.topology].upto(size)[1:] > 0]
    least = int(there.min()) if len(there) >= spread.least_domains else 0
    return tally, counts, least


def _hard(pod: Pod, domains: Domains, key: list[Hashable]) -> tuple[Skewed, ...]:
    found, work = [], pod.workload
    for spread, tally, counts, least in _spreads(pod, domains, hard=True):
        own = all_have((Among((work.namespace,), spread.selector or NO_PODS),), work.namespace, work.labels)
        skew = counts + (own - least)
        passes = skew <= spread.skew
        passes[0] = False
        found.append(Skewed(spread, tally.key, passes, skew, counts, least))
        decides = passes.tobytes() if tally.key.wide else (tally.serial, own - least)
        key.append(("hard", tally.key.serial, spread.topology, spread.skew, decides))
    return tuple(found)


def _soft(pod: Pod, domains: Domains, key: list[Hashable]) -> tuple[Evened, ...]:
    found = []
    for spread, tally, counts, least in _spreads(pod, domains, hard=False):
        score = 100.0 * spread.skew / (spread.skew + np.maximum(counts - least, 0))
        score[0] = 0.0
        found.append(Evened(tally.key, score))
        decides = score.tobytes() if tally.key.wide else (tally.serial, least, spread.skew)
        key.append(("soft", tally.key.serial, decides))
    return tuple(found)


def _near(pod: Pod, domains: Domains, key: list[Hashable]) -> tuple[tuple[Beside, ...], bool]:
    work = pod.workload
    who = tuple(dict.fromkeys(among(term, work.namespace) for term in work.constraints.near))
    tallies = {term.topology: domains.tally(who, term.topology) for term in work.constraints.near}
    first = not any(tally.total for tally in tallies.values()) and all_have(who, work.namespace, work.labels)
    found = []
    for topology, tally in tallies.items():
        counts = tally.counts.upto(len(tally.key.values))
        passes = (counts > 0) | first
        passes[0] = False
        found.append(Beside(topology, tally.key, passes, counts))
        decides = passes.tobytes() if tally.key.wide else (tally.serial, first)
        key.append(("near", topology, tally.key.serial, decides))
    return tuple(found), first


def _apart(term: PodTerm, pod: Pod, domains: Domains, key: list[Hashable]) -> Beside:
    tally = domains.tally((among(term, pod.workload.namespace),), term.topology)
    counts = tally.counts.upto(len(tally.key.values))
    passes = counts == 0
    decides = passes.tobytes() if tally.key.wide else tally.serial
    key.append(("apart", term.topology, tally.key.serial, decides))
    return Beside(term.topology, tally.key, passes, counts)


def _shunned(pod: Pod, domains: Domains, key: list[Hashable]) -> tuple[Beside, ...]:
    """Where somebody runs who keeps pods like this one away."""
    by_key: dict[str, tuple[Key, list[int], list[Integers]]] = {}
    for bearing in domains.heard(pod.workload):
        if bearing.said.apart:
            _, serials, counts = by_key.setdefault(bearing.key.name, (bearing.key, [], []))
            serials.append(bearing.serial)
            counts.append(bearing.counts.upto(len(bearing.key.values)))
    found = []
    for topology, (one, serials, counts) in sorted(by_key.items()):
        sums = sum(counts[1:], start=counts[0])
        passes = sums == 0
        found.append(Beside(topology, one, passes, sums))
        key.append(("shunned", one.serial, passes.tobytes() if one.wide else tuple(sorted(serials))))
    return tuple(found)


def _liked(pod: Pod, domains: Domains, key: list[Hashable]) -> tuple[tuple[Liked, ...], int, int]:
    """Sums by label, their least and their span; nothing where all domains are liked alike."""
    by_key: dict[str, tuple[Key, list[tuple[int, int]], Integers]] = {}

    def add(one: Key, serial: int, weight: int, counts: Integers) -> None:
        _, serials, sums = by_key.setdefault(one.name, (one, [], np.zeros(len(one.values), dtype=np.int64)))
        serials.append((serial, weight))
        sums += weight * counts

    wish = pod.workload.constraints
    terms: Sequence[tuple[PodTerm, int]] = [(term, term.weight) for term in wish.near_preferred]
    terms = [*terms, *((term, -term.weight) for term in wish.apart_preferred)]
    for term, weight in terms:
        tally = domains.tally((among(term, pod.workload.namespace),), term.topology)
        add(tally.key, tally.serial, weight, tally.counts.upto(len(tally.key.values)))
    for bearing in domains.heard(pod.workload):
        if not bearing.said.apart:
            add(bearing.key, bearing.serial, 1, bearing.counts.upto(len(bearing.key.values)))
    low, span, found, decides = 0, 0, [], []
    for _, (one, serials, sums) in sorted(by_key.items()):
        there = one.sizes.upto(len(sums)) > 0
        there[0] = one.nodes < domains.labels.present
        seen = sums[there]
        least, most = (int(seen.min()), int(seen.max())) if len(seen) else (0, 0)
        low, span = low + least, span + most - least
        found.append(Liked(one, sums))
        told = (sums - least).tobytes() if one.wide else (tuple(sorted(serials)), least)
        decides.append((one.serial, told))
    if not span:
        return (), 0, 0
    key.append(("liked", span, tuple(decides)))
    return tuple(found), low, span
