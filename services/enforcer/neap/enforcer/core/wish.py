"""Advice as wishes: which text which knob of which target should show. Odd advice is refused knob by knob."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from neap.common.errors import InputError
from neap.common.model.advice import CgroupAdvice, KnobWrite, NodeAdvice, ResctrlAdvice, WriteStatus
from neap.enforcer.core.knob import Knob, Reach, Site
from neap.enforcer.core.kubepods import OF_RESCTRL, Tree, check_target
from neap.enforcer.core.rdt import GROUP, SCHEMATA, check_group


@dataclass(frozen=True)
class Wishes:
    """What one advice asks for; `texts` by (target, file)."""

    texts: Mapping[tuple[str, str], str]
    cgroups: tuple[CgroupAdvice, ...] = ()  # those with a usable target
    refused: tuple[KnobWrite, ...] = ()
    lacking: Mapping[str, tuple[str, str]] = field(
        default_factory=dict
    )  # file -> the first target and text, for naught


NOTHING: Final = Wishes({})


def wishes_of(advice: NodeAdvice, knobs: Mapping[str, Knob], lacking: Container[str] = ()) -> Wishes:
    """Read an advice; what does not hold is refused with the reason, what this kernel lacks is left out."""
    reading = _Reading(knobs, lacking)
    cgroups: dict[str, CgroupAdvice] = {}
    for cgroup in advice.cgroups:
        try:
            kind = _kind(cgroup.target, cgroups)
        except InputError as error:
            reading.refuse(cgroup.target[:80], "", "", error)
            continue
        cgroups[cgroup.target] = cgroup
        for knob in knobs.values():
            if (value := knob.value(cgroup.knobs)) is not None:
                reading.wish(cgroup.target, knob.file, value, partial(_text, kind=kind))
    groups: dict[str, ResctrlAdvice] = {}
    for group in advice.resctrl:
        try:
            _name(group.group, groups)
        except InputError as error:
            reading.refuse(OF_RESCTRL + group.group[:80], "", "", error)
            continue
        groups[group.group] = group
        if group.group:
            reading.wish(OF_RESCTRL + group.group, GROUP, True, _text)
        reading.wish(OF_RESCTRL + group.group, SCHEMATA, group.schemata, _text)
    return Wishes(reading.texts, tuple(cgroups.values()), tuple(reading.refused), reading.lacked)


class _Reading:
    """What has been read of an advice so far."""

    def __init__(self, knobs: Mapping[str, Knob], lacking: Container[str]) -> None:
        self._knobs, self._lacking = knobs, lacking
        self.texts: dict[tuple[str, str], str] = {}
        self.refused: list[KnobWrite] = []
        self.lacked: dict[str, tuple[str, str]] = {}

    def wish(self, target: str, file: str, value: Any, text: Callable[[Knob, Any], str]) -> None:
        try:
            wished = text(self._knobs[file], value)
        except (InputError, ValueError, OverflowError) as error:
            self.refuse(target, file, str(value)[:80], error)
            return
        if file in self._lacking:
            self.lacked.setdefault(file, (target, wished))
        else:
            self.texts[target, file] = wished

    def refuse(self, target: str, file: str, after: str, error: Exception) -> None:
        self.refused.append(refusal(target, file, after, str(error)))


def _kind(target: str, known: Container[str]) -> str:
    kind, _ = check_target(target)
    if target in known:
        raise InputError("named twice in one advice; the first one counts")
    return kind


def _name(group: str, known: Container[str]) -> None:
    if group:
        check_group(group)
    if group in known:
        raise InputError("named twice in one advice; the first one counts")


def _text(knob: Knob, value: Any, *, kind: str = "") -> str:
    if knob.of_tasks and kind == "class":
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
    if knobs[file].of_tasks:
        return tuple(Site(container, file) for container in tree.containers.get(path, ()))
    return (Site(path, file),)


def sites_to_read(
    targets: tuple[tuple[str, str], ...], owned: tuple[Site, ...], tree: Tree, knobs: Mapping[str, Knob]
) -> list[Site]:
    """Everything a plan must know: the sites, for sets those above them, who mutes whom, and what stands beside."""
    wanted: dict[Site, None] = {}
    sites = [site for target, file in targets for site in sites_of(target, file, tree, knobs)]
    muted = {knob.muted_by: knob.file for knob in knobs.values() if knob.muted_by}
    for site in dict.fromkeys((*sites, *(site for site in owned if tree.has(site.cgroup)))):
        knob = knobs[site.file]
        if knob.reach is not Reach.LEVEL:
            wanted[site] = None
        if knob.reach is Reach.NESTED:
            wanted.update((Site(above, site.file), None) for above in tree.above(site.cgroup))
            wanted[outermost(tree, site.file)] = None
        for companion in (knob.muted_by, muted.get(site.file, ""), *knob.beside):
            if companion:
                wanted[Site(site.cgroup, companion)] = None
    return list(wanted)


def outermost(tree: Tree, file: str) -> Site:
    """Where the kernel says which set the pods' root can have at all."""
    return Site(tree.root.rpartition("/")[0], f"{file}.effective")
