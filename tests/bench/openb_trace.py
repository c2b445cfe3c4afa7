"""The openb trace and its recipe: the cluster, the lists of pods, arrivals by seed, what was published, and the ruler.

1,213 GPU nodes; the pods of a list shuffled by the seed, then copies of pods drawn from it until 130 % of all cards are
asked; one at a time, nothing leaves, a pod that fits nowhere is forgotten. After every pod: arrived % of all cards,
allocated % of them, F summed over nodes as % of them; events are averaged over arrived % as a whole number. Everybody
is told by one ruler, F over the most frequent 95 % of the list's pods.

Source: ../shared/data/openb; Weng et al., USENIX ATC 2023, and the result files of its simulator (reference.csv).
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from neap.scheduler.core.choice.fragments import UNBOUNDED, Mix, Room, Whole
from neap.scheduler.core.nodes.columns import code
from neap.scheduler.core.nodes.view import Numbers
from neap.scheduler.core.pods.typical import CARD, COVER, Typical, typical_pods

FOLDER: Final = Path(__file__).resolve().parents[3] / "shared" / "data" / "openb"
TRACES: Final = ("default", "cpu050", "gpushare40", "gpuspec10", "multigpu20")
SEEDS: Final = (42, 43, 44, 45, 46)
TUNED: Final = 1.3  # of all cards, asked in the end


class Job(NamedTuple):
    """A pod of the trace; all of one shape are equal."""

    cpu: int  # milli-cores
    memory: int  # MiB
    cards: int
    core: int  # of each card, milli
    models: tuple[str, ...]

    @property
    def milli(self) -> int:
        """Of cards, in all."""
        return self.cards * self.core

    @property
    def tag(self) -> int:
        """GPU clustering's kind of pod: 0 a slice, k whole cards."""
        return self.cards if self.core == CARD else 0


class Nodes(NamedTuple):
    """The cluster, empty."""

    names: tuple[str, ...]
    cpu: Numbers
    memory: Numbers
    cards: Whole  # (nodes, 8), milli; 0 where there is none
    models: Whole  # codes; 0 where there is none


class Curve(NamedTuple):
    """By arrived percent, 0 to 130."""

    allocated: Numbers  # percent of all cards
    fragmented: Numbers


class Meter:
    """Sums over a run, by arrived percent."""

    def __init__(self, total: int) -> None:
        self._total, self._asked = total, 0
        self._sums = np.zeros((3, round(100 * TUNED) + 1))

    def note(self, job: Job, allocated: int, fragments: float) -> None:
        """A pod has come, and this is how things are."""
        self._asked += job.milli
        self._sums[:, round(100 * self._asked / self._total)] += (1, allocated, fragments)

    @property
    def curve(self) -> Curve:
        """Means over the events of each percent."""
        with np.errstate(invalid="ignore"):
            return Curve(*(100 * self._sums[1:] / self._sums[0] / self._total))


def room_of(cpu: Numbers, cards: Whole, models: Whole) -> Room:
    """Nodes of a trace that says nothing about the memory of cards."""
    return Room(cpu, cards, np.full(cards.shape, UNBOUNDED), models, models > 0)


def arrivals(jobs: Sequence[Job], total: int, random: np.random.Generator) -> list[Job]:
    """All jobs in any order, then copies while they ask no more than 130 % of all cards; without some, if they do."""
    found = [jobs[i] for i in random.permutation(len(jobs))]
    asked, limit = sum(job.milli for job in found), TUNED * total
    while asked > limit:
        asked -= found.pop(int(random.integers(len(found)))).milli
    while True:
        job = jobs[int(random.integers(len(jobs)))]
        asked += job.milli
        if asked > limit:
            return found
        found.append(job)


@lru_cache
def mix_of(trace: str, cover: float = COVER) -> Mix:
    """The typical pods of a list."""
    return Mix(typical(trace, cover))


def typical(trace: str, cover: float) -> tuple[Typical, ...]:
    """Shapes of a list, most frequent first, as many as make up so much of it."""
    return typical_pods((Typical(1, j.cpu, j.cards, j.core, j.models) for j in read_jobs(trace)), cover)


@lru_cache
def read_jobs(trace: str) -> tuple[Job, ...]:
    """The pods of a list, in its order; a list of models as it is written, because shapes are counted by it."""
    with (FOLDER / f"openb_pod_list_{trace}.csv").open() as lines:
        return tuple(
            Job(int(row["cpu_milli"]), int(row["memory_mib"]), int(row["num_gpu"]), int(row["gpu_milli"]),
                tuple(filter(None, row.get("gpu_spec", "").split("|"))))
            for row in csv.DictReader(lines)
        )  # fmt: skip


@lru_cache
def read_nodes() -> Nodes:
    """The cluster's GPU nodes."""
    with (FOLDER / "openb_node_list_gpu_node.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    there = np.arange(8) < np.array([int(row["gpu"]) for row in rows])[:, None]
    models = np.array([code(row["model"]) for row in rows])
    return Nodes(
        tuple(row["sn"] for row in rows),
        np.array([float(row["cpu_milli"]) for row in rows]),
        np.array([float(row["memory_mib"]) for row in rows]),
        np.where(there, CARD, 0),
        np.where(there, models[:, None], 0),
    )


@lru_cache
def published() -> dict[tuple[str, str, str], Numbers]:
    """(trace, policy, metric) -> mean by arrived percent."""
    with (FOLDER / "reference.csv").open() as lines:
        return {
            (row["trace"], row["policy"], row["metric"]): np.array([float(row[str(i)]) for i in range(131)])
            for row in csv.DictReader(lines)
            if row["stat"] == "mean"
        }
