"""Short reports, and what to do with one whose full report was never heard.

A short report lists the containers that moved since a full one. With that one at hand the two make a whole. Without
it (lost, or said to an earlier life) the newest facts of each container stand in: somewhat old for those that are not
listed, which beats waiting for the next full report while an owner's load rises. Where nothing at all was heard
before, containers that are not listed are simply unknown, and `known` says so: then nobody's pool shrinks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from msgspec.structs import replace

from neap.common.model.usage import ContainerUsage, NodeUsage, completed


@dataclass(frozen=True)
class Heard:
    """Usage as far as it is known; `known`: every container is in it."""

    usage: NodeUsage
    full: NodeUsage | None  # the last report that listed all containers
    known: bool


def hear(report: NodeUsage, before: Heard | None) -> Heard:
    """One more report on top of what was heard before."""
    full = before.full if before is not None else None
    whole = completed(report, full)
    if whole is not None:
        return Heard(whole, full if report.since else report, known=True)
    last = before.usage.containers if before is not None else ()
    newest = {container.cgroup: container for container in (*last, *report.containers)}
    patched = replace(report, containers=tuple(newest.values()), since=0)
    return Heard(patched, full, known=before is not None and before.known)


def by_pod(containers: Iterable[ContainerUsage]) -> dict[str, list[ContainerUsage]]:
    """Containers by their pod's uid."""
    found: dict[str, list[ContainerUsage]] = {}
    for container in containers:
        found.setdefault(container.uid, []).append(container)
    return found
