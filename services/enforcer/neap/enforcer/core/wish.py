"""Advice as wishes: which text which knob of which target should show. Odd advice is refused knob by knob."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any, Final

from neap.common.errors import InputError
from neap.common.model.advice import CgroupAdvice, KnobWrite, NodeAdvice, WriteStatus
from neap.enforcer.core.knob import Knob, Reach, Site
from neap.enforcer.core.kubepods import Tree, check_target


@dataclass(frozen=True)
class Wishes:
    """What one advice asks for; `texts` by (target, file)."""

    texts: Mapping[tuple[str, str], str]
    cgroups: tuple[CgroupAdvice, ...] = ()  # those with a usable target
    refused: tuple[KnobWrite, ...] = ()


NOTHING: Final = Wishes({})


def wishes_of(advice: NodeAdvice, knobs: Mapping[str, Knob]) -> Wishes:
    """Read an advice; what does not hold is refused with the reason, the rest stands."""
    texts: dict[tuple[str, str], str] = {}
    cgroups: dict[str, CgroupAdvice] = {}
    refused: list[KnobWrite] = []
    for cgroup in advice.cgroups:
        try:
            kind = _kind(cgroup.target, cgroups)
        except InputError as error:
            refused.append(refusal(cgroup.target[:80], "", "", str(error)))
            continue
        cgroups[cgroup.target] = cgroup
        for knob in knobs.values():
            if (value := knob.value(cgroup.knobs)) is None:
                continue
            try:
                texts[cgroup.target, knob.file] = _text(knob, value, kind)
            except (InputError, ValueError, OverflowError) as error:
                refused.append(refusal(cgroup.target, knob.file, str(value)[:80], str(error)))
    return Wishes(texts, tuple(cgroups.values()), tuple(refused))


def _kind(target: str, known: Container[str]) -> str:
    kind, _ = check_target(target)
    if target in known:
        raise InputError("named twice in one advice; the first one counts")
    return kind


def _text(knob: Knob, value: Any, kind: str) -> str:
    if knob.reach is Reach.PROCESSES and kind != "pod":
        raise InputError("belongs to a pod's processes, not to a class")
    return knob.format(value)


def refusal(cgroup: str, file: str, after: str, why: str) -> KnobWrite:
    """A write that will not be tried."""
    return KnobWrite(cgroup=cgroup, knob=file, before="", after=after, status=WriteStatus.REFUSED, why=why)


def sites_of(target: str, file: str, tree: Tree, knobs: Mapping[str, Knob]) -> tuple[Site, ...]:
    """Where a wish is written: the cgroup itself, or each container of it; empty while there is none."""
    path = tree.path_of(target)
    if path is None:
        return ()
    if knobs[file].reach is Reach.PROCESSES:
        return tuple(Site(container, file) for container in tree.containers.get(path, ()))
    return (Site(path, file),)


def sites_to_read(
    targets: tuple[tuple[str, str], ...], owned: tuple[Site, ...], tree: Tree, knobs: Mapping[str, Knob]
) -> list[Site]:
    """Everything a plan must know: the sites, for sets those above them, and who mutes whom."""
    wanted: dict[Site, None] = {}
    sites = [site for target, file in targets for site in sites_of(target, file, tree, knobs)]
    muted = {knob.muted_by: knob.file for knob in knobs.values() if knob.muted_by}
    for site in dict.fromkeys((*sites, *(site for site in owned if tree.has(site.cgroup)))):
        wanted[site] = None
        knob = knobs[site.file]
        if knob.reach is Reach.NESTED:
            wanted.update((Site(above, site.file), None) for above in tree.above(site.cgroup))
            wanted[outermost(tree, site.file)] = None
        for companion in (knob.muted_by, muted.get(site.file, "")):
            if companion:
                wanted[Site(site.cgroup, companion)] = None
    return list(wanted)


def outermost(tree: Tree, file: str) -> Site:
    """Where the kernel says which set the pods' root can have at all."""
    return Site(tree.root.rpartition("/")[0], f"{file}.effective")
