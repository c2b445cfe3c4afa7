"""What the enforcer asks its hands to do, and what they answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from neap.common.model.advice import WriteStatus
from neap.common.runtime.machine import Instruction
from neap.enforcer.core.knob import Site
from neap.enforcer.core.kubepods import Tree

Originals: TypeAlias = Mapping[Site, str]  # what every knob showed before it was first written


@dataclass(frozen=True, slots=True)
class Observe(Instruction):
    """List the pods' cgroups and read the knobs of `targets` and `sites`, all in one read. Answers Observed."""

    serial: int
    targets: tuple[tuple[str, str], ...]  # ("pod/<uid>", "cpu.weight")
    sites: tuple[Site, ...]


@dataclass(frozen=True, slots=True)
class Observed:
    """What the host shows; `tree` is None where pods have no cgroup root at all."""

    tree: Tree | None
    texts: Mapping[Site, str | None]  # None: no such file


class Write(NamedTuple):
    """One text for one knob of one cgroup."""

    site: Site
    text: str
    before: str
    why: str
    restores: bool = False


@dataclass(frozen=True, slots=True)
class Apply(Instruction):
    """Store `originals`, then write: `ordered` up to the first refusal, each of `loose` for itself.

    Answers one Outcome per write, ordered ones first. What was restored is struck from the journal afterwards.
    """

    serial: int
    originals: Originals
    ordered: tuple[Write, ...] = ()
    loose: tuple[Write, ...] = ()

    @property
    def writes(self) -> tuple[Write, ...]:
        """All of them, in the order of their outcomes."""
        return self.ordered + self.loose


class Outcome(NamedTuple):
    """What became of one write."""

    status: WriteStatus
    why: str = ""


def still_owed(originals: Originals, writes: tuple[Write, ...], outcomes: tuple[Outcome, ...]) -> dict[Site, str]:
    """The originals that are not back yet: a restore that was refused, or not tried, stays owed."""
    told = [(write.site, outcome.status) for write, outcome in zip(writes, outcomes, strict=True) if write.restores]
    refused = {site for site, status in told if status is WriteStatus.REFUSED}
    back = {site for site, _ in told} - refused
    return {site: text for site, text in originals.items() if site not in back}
