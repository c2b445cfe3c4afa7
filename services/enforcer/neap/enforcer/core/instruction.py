"""What the enforcer asks its hands to do, and what they answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from neap.common.model.advice import WriteStatus
from neap.common.model.enforcement import Rung
from neap.common.runtime.machine import Instruction
from neap.enforcer.core.knob import Site
from neap.enforcer.core.kubepods import Tree

Originals: TypeAlias = Mapping[Site, str]  # what every knob showed before it was first written


@dataclass(frozen=True, slots=True)
class Probe(Instruction):
    """Find out what this kernel offers. Answers Probed."""

    serial: int


@dataclass(frozen=True, slots=True)
class Probed:
    """What was found. `root` is "" where pods have no cgroups; `denied` is "" where they can be written."""

    root: str
    denied: str = ""
    controllers: tuple[str, ...] = ()  # of the pods' root
    files: tuple[str, ...] = ()  # in the pods' root
    switches: Mapping[str, str | None] = field(
        default_factory=dict
    )  # texts of the knobs' `enabled_by` files in the root cgroup
    resctrl: bool = False
    kernel: str = ""


@dataclass(frozen=True, slots=True)
class RungFound:
    """A door to the containers was tried; heard from whoever tries it (the NRI client), again when that changes."""

    rung: Rung
    works: bool
    why: str


@dataclass(frozen=True, slots=True)
class TellRuntime(Instruction):
    """Bring running containers in line with the advice that holds. Answers the ids that could not be changed."""

    serial: int


@dataclass(frozen=True, slots=True)
class WatchFolders(Instruction):
    """Be told at once when something comes or goes in these, or one of `files` is written. Answers Watched."""

    folders: tuple[str, ...]
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Watched:
    """The directories that cannot be watched, and why."""

    refused: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Observe(Instruction):
    """List the pods' cgroups and read the knobs of `targets` and `sites`, all in one read. Answers Observed.

    Without `fresh`, containers and what their tasks show may be what was seen before, as long as the pods are the same.
    """

    serial: int
    targets: tuple[tuple[str, str], ...]  # ("pod/<uid>", "cpu.weight")
    sites: tuple[Site, ...]
    fresh: bool = True


@dataclass(frozen=True, slots=True)
class Observed:
    """What the host shows; `tree` is None where pods have no cgroup root at all."""

    tree: Tree | None
    texts: Mapping[Site, str | None]  # None: no such file


class Write(NamedTuple):
    """One text for one knob of one cgroup; `fallback` comes nearest to it where the kernel does not take it."""

    site: Site
    text: str
    before: str
    why: str
    restores: bool = False
    fallback: str = ""


@dataclass(frozen=True, slots=True)
class Apply(Instruction):
    """Store `originals`, then write: `ordered` up to the first refusal, each of `loose` for itself; then read back.

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
    """What became of one write; `kept` is what the kernel shows after all of them, None where that is not known.

    A restoring write is not read back: `kept` is its fallback, if that was written.
    """

    status: WriteStatus
    why: str = ""
    kept: str | None = None


def still_owed(originals: Originals, writes: tuple[Write, ...], outcomes: tuple[Outcome, ...]) -> dict[Site, str]:
    """The originals that are not back yet: a restore that was refused, or not tried, stays owed."""
    told = [(write.site, outcome.status) for write, outcome in zip(writes, outcomes, strict=True) if write.restores]
    refused = {site for site, status in told if status is WriteStatus.REFUSED}
    back = {site for site, _ in told} - refused
    return {site: text for site, text in originals.items() if site not in back}
