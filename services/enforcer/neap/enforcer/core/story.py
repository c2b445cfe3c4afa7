"""The words: one KnobWrite per write, and a pod's own trail when its advice first becomes true or hurts."""

from __future__ import annotations

from collections.abc import Iterable

from neap.common.cpuset import format_cpuset
from neap.common.model.advice import CgroupAdvice, KnobWrite, WriteStatus
from neap.common.model.lifecycle import Measured
from neap.common.model.trail import TrailEntry
from neap.common.runtime.machine import Decide
from neap.common.telemetry.span import object_context
from neap.common.units import Seconds
from neap.enforcer.core.instruction import Outcome, Write
from neap.enforcer.core.knob import Site
from neap.enforcer.core.order import CpuSet

CGROUP_MOUNT = "/sys/fs/cgroup/"


def knob_write(write: Write, outcome: Outcome) -> KnobWrite:
    """The audit line of one write."""
    return KnobWrite(
        cgroup=write.site.cgroup.removeprefix(CGROUP_MOUNT),
        knob=write.site.file,
        before=write.before.strip(),
        after=write.text.strip(),
        status=outcome.status,
        why=f"{write.why}: {outcome.why}" if outcome.why else write.why,
    )


def not_written(site: Site, text: str, status: WriteStatus, why: str) -> KnobWrite:
    """The audit line of a write that was not tried."""
    cgroup = site.cgroup.removeprefix(CGROUP_MOUNT)
    return KnobWrite(cgroup=cgroup, knob=site.file, before="", after=text.strip(), status=status, why=why)


def changes(writes: Iterable[KnobWrite], cgroup: str) -> str:
    """What was written to a cgroup and below, first text to last: "cpu.weight 100 -> 2, cpu.max ..."."""
    seen: dict[str, tuple[str, str]] = {}
    inside = cgroup.removeprefix(CGROUP_MOUNT)
    for write in writes:
        if write.status is WriteStatus.WRITTEN and (write.cgroup == inside or write.cgroup.startswith(inside + "/")):
            first = seen.get(write.knob, (write.before, ""))[0]
            seen[write.knob] = (first, write.after)
    told = (f"{knob} {old or 'as its parent'} -> {new or 'as its parent'}" for knob, (old, new) in seen.items())
    return ", ".join(told)


def applied_line(
    advice: CgroupAdvice,
    what_changed: str,
    sets: tuple[CpuSet, CpuSet] | None,
    *,
    at: Seconds,
    node: str,
    seq: int,
    first: bool,
) -> Decide:
    """A line of a named pod's trail."""
    about = advice.about
    assert about is not None, f"{advice.target} is not named"
    numbers: tuple[Measured, ...] = ()
    told = what_changed or "everything was already as advised"
    if sets is not None and sets[0] != sets[1]:
        old, new = sets
        told = f"CPUs {format_cpuset(old)} -> {format_cpuset(new)} ({len(old)} -> {len(new)}); {told}"
        numbers = (Measured(metric="cpuset size", value=len(new), threshold=len(old)),)
    return Decide(
        TrailEntry(
            at=at,
            source="enforcer",
            id=f"{about.uid}.{advice.attempt}.applied" + ("" if first else f".{node}.{seq}"),
            about=about,
            what="applied",
            why=f"{told}; pool {advice.pool}, advice {seq} of {node}",
            numbers=numbers,
            node=node,
            trace=object_context(about).trace,
            cause=f"{about.uid}.{advice.attempt}.advised" if first else f"{node}.advice.{seq}",
        )
    )


def lost_share(sets: tuple[CpuSet, CpuSet] | None) -> float:
    """The share of its CPUs a cgroup loses, 0..1."""
    return 1 - len(sets[1]) / len(sets[0]) if sets and sets[0] else 0.0
