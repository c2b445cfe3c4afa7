"""Why a workload is where it is, or nowhere: what the scheduler is asked, and what it answers."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from neap.common.model.workload import Workload

MOST_DRY_RUN: Final = 128  # workloads in one question


class ExplainRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Why is this workload where it is, or nowhere?"""

    namespace: str
    name: str


class NodeClassVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """Nodes rejected for one and the same reason: each by the first rule, in the plugins' order, that it fails."""

    plugin: str
    reason: str
    nodes: int
    example: str
    nearest: str = ""  # the node that came nearest to passing, with the numbers
    alone: int = 0  # nodes that fail this rule and no other


class Term(msgspec.Struct, frozen=True, kw_only=True):
    """What one plugin adds to a node's score; the contributions sum to it."""

    plugin: str
    weight: float
    score: float  # 0..100
    contribution: float  # weight · score / Σ weight


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A node that can take the workload, and its score."""

    node: str
    score: float
    terms: tuple[Term, ...] = ()


class Remedy(msgspec.Struct, frozen=True, kw_only=True):
    """One change by itself that would let nodes pass which fail nothing else."""

    plugin: str
    reason: str
    nodes: int  # that fail only this
    says: str  # at the nearest of them: "1.5 more cores free on n17"


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """The scheduler's answer. What is weighed is the present state, without the workload itself."""

    found: bool
    state: str  # "queued", "placed", "ended", "unknown"; of a dry run: "fits", "waiting", "refused"
    node: str = ""
    reason: str = ""  # of a placed one: what was said when it was placed
    rejected: tuple[NodeClassVerdict, ...] = ()
    wakes_on: tuple[str, ...] = ()
    name: str = ""  # namespace/name
    at: float = 0.0  # when it was placed; 0: not known
    nodes: int = 0  # weighed now
    feasible: int = 0  # of them can take it
    best: Candidate | None = None  # where it would go now
    second: Candidate | None = None
    remedies: tuple[Remedy, ...] = ()  # where nothing fits; most nodes first
    closest: str = ""  # where no single change is enough: the node that fails fewest rules, and which
    waits_for: str = ""  # a far better node whose ledger is free in a moment
    parts: tuple[str, ...] = ()  # what it would get of the node, in words


class DryRun(msgspec.Struct, frozen=True, kw_only=True):
    """Would these be placed now, one after the other? Nothing is placed, and nothing waits."""

    workloads: Annotated[tuple[Workload, ...], msgspec.Meta(max_length=MOST_DRY_RUN)]


class DryRunAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """In the order of the question; like ones after the first are told in short."""

    answers: tuple[Explanation, ...]
