"""The ways of placing pods that FGD was published against, and FGD, as a simulation of their own beside the scheduler.

Source: Weng et al., USENIX ATC 2023; formulas as in ../shared/data/openb. `fgd` is the plugin's arithmetic on the
simulation's own bookkeeping, to compare the scheduler with, and to show what another choice among equals costs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np

from neap.scheduler.core.choice.fragments import Mix, Whole
from neap.scheduler.core.nodes.columns import code
from neap.scheduler.core.nodes.view import ALL, Mask, Numbers, Rows
from neap.scheduler.core.pods.typical import CARD
from neap.scheduler.plugins.fgd import PUBLISHED, Ask, Rule, descend
from tests.bench.openb_trace import Curve, Job, Meter, Nodes, arrivals, mix_of, read_jobs, read_nodes, room_of

LARGEST_CPU, LARGEST_CARDS = 128_000, 8 * CARD  # of one node, for scores that are ratios

Order = np.ndarray[tuple[int], np.dtype[np.intp]]


class Fit(NamedTuple):
    """A pod on some nodes: score, and the cards it would leave; only where it fits."""

    score: Numbers
    cards: Whole


class Cluster:
    """What is left of each node, in the order of the run's permutation, and what a way of placing knows.

    `mix` and `rule` are FGD's; `ruler` is what fragmentation is told by.
    """

    def __init__(self, nodes: Nodes, order: Order, ruler: Mix, mix: Mix | None = None, rule: Rule = PUBLISHED) -> None:
        self.names = [nodes.names[i] for i in order]
        self.cpu, self.memory = nodes.cpu[order].copy(), nodes.memory[order].copy()
        self.cards, self.models = nodes.cards[order].copy(), nodes.models[order].copy()
        self.whole = self.cards.copy()
        self.mix, self.rule, self._ruler = mix or ruler, rule, ruler
        self.tags = np.zeros((len(order), 9), dtype=np.bool_)
        self.version = np.zeros(len(order), dtype=np.int64)
        self.tick = 0
        self.allocated = 0
        self.fragments = ruler.fragmentation(room_of(self.cpu, self.cards, self.models))

    def allowed(self, rows: Rows, job: Job) -> Mask:
        """Cards of a model the pod may have, (rows, cards)."""
        models = self.models[rows]
        return np.isin(models, [code(model) for model in job.models]) if job.models else models > 0

    def fits(self, rows: Rows, job: Job) -> Mask:
        """Nodes with enough of everything."""
        enough = (self.cpu[rows] >= job.cpu) & (self.memory[rows] >= job.memory)
        if not job.cards:
            return enough
        fits: Mask = enough & (((self.cards[rows] >= job.core) & self.allowed(rows, job)).sum(axis=1) >= job.cards)
        return fits

    def place(self, row: int, job: Job, cards: Whole) -> None:
        """The pod takes what it asked, and leaves these cards."""
        self.cpu[row] -= job.cpu
        self.memory[row] -= job.memory
        self.cards[row] = cards
        if job.cards:
            self.tags[row, job.tag] = True
        self.allocated += job.milli
        self.tick += 1
        self.version[row] = self.tick
        one = slice(row, row + 1)
        self.fragments[row] = self._ruler.fragmentation(room_of(self.cpu[one], self.cards[one], self.models[one]))[0]


Way = Callable[[Cluster, Rows, Job], Fit]


def fgd(cluster: Cluster, rows: Rows, job: Job) -> Fit:
    """The plugin."""
    room = room_of(cluster.cpu[rows], cluster.cards[rows], cluster.models[rows])
    room = room._replace(open=cluster.allowed(rows, job))
    asks = [Ask(job.cards, job.core)] if job.cards else []
    return Fit(*descend(cluster.mix, room, job.cpu, asks, cluster.rule)[:2])


def tightest(cluster: Cluster, rows: Rows, job: Job) -> Whole:
    """Cards left if the pod gets those with the least left that fit: for whole cards, the first untouched ones."""
    cards = cluster.cards[rows].copy()
    if job.cards:
        room = np.where((cards >= job.core) & cluster.allowed(rows, job), cards, np.inf)
        taken = np.argsort(room, axis=1, kind="stable")[:, : job.cards]
        np.put_along_axis(cards, taken, np.take_along_axis(cards, taken, axis=1) - job.core, axis=1)
    return cards


def best_fit(cluster: Cluster, rows: Rows, job: Job) -> Fit:
    """The least left, CPU and cards alike."""
    cpu, milli = cluster.cpu[rows] - job.cpu, cluster.cards[rows].sum(axis=1) - job.milli
    score = np.floor(100 * (1 - (0.5 * cpu / LARGEST_CPU + 0.5 * milli / LARGEST_CARDS)))
    return Fit(score, tightest(cluster, rows, job))


def dot_product(cluster: Cluster, rows: Rows, job: Job) -> Fit:
    """What is left least like what is asked."""
    cpu = cluster.cpu[rows] / LARGEST_CPU * (job.cpu / LARGEST_CPU)
    milli = cluster.cards[rows].sum(axis=1) / LARGEST_CARDS * (job.milli / LARGEST_CARDS)
    return Fit(np.floor(100 * (1 - (cpu + milli) / 2)), tightest(cluster, rows, job))


def clustering(cluster: Cluster, rows: Rows, job: Job) -> Fit:
    """With pods of one kind; among those, where more is used."""
    cards = tightest(cluster, rows, job)
    if not job.cards:
        return Fit(np.zeros(len(cards)), cards)
    used = np.floor(25 * (LARGEST_CARDS - cluster.cards[rows].sum(axis=1)) / LARGEST_CARDS)
    kinds, same = cluster.tags[rows].sum(axis=1), cluster.tags[rows, job.tag]
    return Fit(used + np.select([same & (kinds == 1), same, kinds == 0], [75, 50, 25], 0), cards)


def packing(cluster: Cluster, rows: Rows, job: Job) -> Fit:
    """On cards in use, else on nodes in use, else where fewest cards are."""
    before, whole, after = cluster.cards[rows], cluster.whole[rows], tightest(cluster, rows, job)
    if not job.cards:
        return Fit(np.zeros(len(after)), after)
    idle, count = ((before == CARD) & (whole > 0)).sum(axis=1), (whole > 0).sum(axis=1)
    taken = after < before
    opened = (taken & (before == CARD)).sum(axis=1)
    shared = np.floor(np.where(taken, np.floor(before / 10), 0).sum(axis=1) / 10)
    cases = [idle == count, opened > 0]
    scores = [np.maximum(33 - idle, idle), np.maximum(50 - opened, 33)]
    return Fit(np.select(cases, scores, np.maximum(100 - shared, 50)).astype(np.float64), after)


WAYS: Final[dict[str, Way]] = {
    "FGD": fgd, "BestFit": best_fit, "GpuPacking": packing, "GpuClustering": clustering, "DotProd": dot_product,
}  # fmt: skip


class Replay:
    """One run: which node each pod gets. Scores are kept by shape of pod; only rows changed since are redone."""

    def __init__(
        self, cluster: Cluster, way: Way | None, random: np.random.Generator, *, scatter: bool = False
    ) -> None:
        self.cluster, self._way, self._random, self._scatter = cluster, way, random, scatter
        self._kept: dict[Job, tuple[Numbers, Whole, int]] = {}

    def submit(self, job: Job) -> bool:
        """Place a pod if it fits anywhere. Without a way: anywhere, on any card."""
        cluster = self.cluster
        if self._way is None:
            return self._anywhere(job)
        scores, cards = self._scored(self._way, job)
        row = int(scores.argmax())
        if scores[row] < 0:
            return False
        if self._scatter:
            row = int(self._random.choice(np.flatnonzero(scores == scores[row])))
        cluster.place(row, job, cards[row])
        return True

    def _scored(self, way: Way, job: Job) -> tuple[Numbers, Whole]:
        cluster, kept = self.cluster, self._kept.get(job)
        if kept is None:
            scores, cards, rows = np.full(len(cluster.cpu), -1.0), cluster.cards.copy(), cluster.fits(ALL, job)
        else:
            scores, cards, seen = kept
            rows = cluster.version > seen
        changed = np.flatnonzero(rows)
        ok = cluster.fits(changed, job)
        scores[changed[~ok]] = -1.0
        fitting = changed[ok]
        if len(fitting):
            scores[fitting], cards[fitting] = way(cluster, fitting, job)
        self._kept[job] = scores, cards, cluster.tick
        return scores, cards

    def _anywhere(self, job: Job) -> bool:
        cluster = self.cluster
        rows = np.flatnonzero(cluster.fits(ALL, job))
        if not len(rows):
            return False
        row = int(self._random.choice(rows))
        cards, one = cluster.cards[row].copy(), slice(row, row + 1)
        if job.cards:
            free = np.flatnonzero((cards >= job.core) & cluster.allowed(one, job)[0])
            cards[free[: job.cards] if job.core == CARD else self._random.choice(free)] -= job.core
        cluster.place(row, job, cards)
        return True


def simulated(trace: str, policy: str, seed: int, *, scatter: bool = False) -> Curve:
    """One run. `scatter`: any among equals, not the first."""
    nodes, random = read_nodes(), np.random.default_rng(seed)
    arriving = arrivals(read_jobs(trace), int(nodes.cards.sum()), random)
    cluster = Cluster(nodes, random.permutation(len(nodes.cpu)), mix_of(trace))
    run, meter = Replay(cluster, WAYS.get(policy), random, scatter=scatter), Meter(int(nodes.cards.sum()))
    for job in arriving:
        run.submit(job)
        meter.note(job, cluster.allocated, cluster.fragments.sum())
    return meter.curve
