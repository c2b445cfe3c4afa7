"""What the host shows + what is wished = the writes, in the order in which they are safe.

Sets (CPUs, memory nodes) come first, ordered by core/order.py over the whole node, so owners get their cores
before anything else happens. Then every other knob on its own, each kind in its turn (those that mute another one
first). A cgroup that is wished for no longer goes back to its originals; children before parents.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from neap.common.cpuset import format_cpuset, parse_cpuset
from neap.common.errors import InputError
from neap.enforcer.core.instruction import Originals, Write
from neap.enforcer.core.knob import Knob, Reach, Site
from neap.enforcer.core.kubepods import Tree
from neap.enforcer.core.order import NOTHING, CpuSet, Move, in_order
from neap.enforcer.core.rdt import GROUP, PRESENT
from neap.enforcer.core.wish import Wishes, outermost, sites_of


class Aim(NamedTuple):
    """What one site should show, and why."""

    text: str
    why: str
    restores: bool = False


@dataclass(frozen=True)
class Scene:
    """Everything a plan is made from; `still` are sites to leave alone this time, `exclusive` are paths."""

    tree: Tree
    texts: Mapping[Site, str | None]
    knobs: Mapping[str, Knob]
    still: frozenset[Site] = frozenset()
    exclusive: frozenset[str] = frozenset()
    blind: bool = False  # write even what already looks right: the texts may be old


@dataclass
class Plan:
    """See module docstring. `sets` is what each cgroup's CPUs become: path -> (old, new)."""

    ordered: list[Write] = field(default_factory=list)
    loose: list[Write] = field(default_factory=list)
    refused: dict[Site, str] = field(default_factory=dict)
    unsupported: list[Site] = field(default_factory=list)
    back: list[Site] = field(default_factory=list)  # to be restored, and already so
    sets: dict[str, tuple[CpuSet, CpuSet]] = field(default_factory=dict)


def aims_of(
    wishes: Wishes, tree: Tree, originals: Originals, knobs: Mapping[str, Knob], *, why: str, why_back: str
) -> dict[Site, Aim]:
    """Every site we answer for: wished ones, and those that go back.

    A knob that the advice for a cgroup leaves out stays as it is; a cgroup that the advice leaves out goes back. A
    weight that our own cpu.idle has thrown away goes back as soon as it can.
    """
    aims: dict[Site, Aim] = {}
    for (target, file), text in wishes.texts.items():
        for site in sites_of(target, file, tree, knobs):
            aims.setdefault(site, Aim(text, why))
    named = {tree.path_of(target) for target in dict.fromkeys(target for target, _ in wishes.texts)}
    named |= {tree.path_of(cgroup.target) for cgroup in wishes.cgroups}
    for site, original in originals.items():
        knob = knobs[site.file]
        is_named = site.cgroup in named or (knob.of_tasks and site.cgroup.rpartition("/")[0] in named)
        if not is_named or Site(site.cgroup, knob.muted_by) in originals:
            aims.setdefault(site, Aim(knob.inverse(original), why_back, restores=True))
    return aims


def make_plan(aims: Mapping[Site, Aim], scene: Scene) -> Plan:
    """The writes that make `aims` true."""
    plan = Plan()
    open_aims: dict[Site, Aim] = {}
    for site, aim in aims.items():
        read = scene.texts.get(site)
        if scene.knobs[site.file].reach is Reach.LEVEL:
            continue
        if read is None and not scene.blind and not _is_of_a_group_to_be(site, aims):
            (plan.back if aim.restores else plan.unsupported).append(site)
        elif site not in scene.still and not _is_muted(site, aims, scene) and not _is_idle(site, read, scene):
            open_aims[site] = aim
    nested = sorted({site.file for site in open_aims if scene.knobs[site.file].reach is Reach.NESTED})
    for file in nested:
        _Sets(file, {site.cgroup: aim for site, aim in open_aims.items() if site.file == file}, scene, plan).write()
    for site, aim in open_aims.items():
        if site.file not in nested:
            _write_alone(site, aim, scene, plan)
    plan.loose.sort(key=lambda w: (_turn(scene.knobs[w.site.file], w), -w.site.cgroup.count("/") * w.restores, w.site))
    return plan


def to_remember(plan: Plan, scene: Scene, originals: Originals) -> dict[Site, str]:
    """The originals once this plan is under way: first writes, and what a written knob is about to mute."""
    remembered = dict(originals)
    muted = {knob.muted_by: knob.file for knob in scene.knobs.values() if knob.muted_by}
    for write in (*plan.ordered, *plan.loose):
        sites = [write.site]
        if write.site.file in muted and write.text.strip() == "1":
            sites.append(Site(write.site.cgroup, muted[write.site.file]))
        for site in sites:
            if not write.restores and (read := scene.texts.get(site)) is not None:
                remembered[site] = scene.knobs[site.file].keep(remembered.get(site), read, write.text)
    return {site: text for site, text in remembered.items() if site not in plan.back}


def _write_alone(site: Site, aim: Aim, scene: Scene, plan: Plan) -> None:
    """One knob that depends on no other cgroup's; not written if it could not be taken back."""
    knob, read = scene.knobs[site.file], scene.texts.get(site) or ""
    if not scene.blind and knob.same(aim.text, read):
        if aim.restores:
            plan.back.append(site)
        return
    if not aim.restores and site in scene.texts and scene.texts[site] is not None:
        try:
            knob.inverse(knob.keep(None, read, aim.text))
        except InputError as error:
            plan.refused[site] = f"could not be taken back: {error}"
            return
    plan.loose.append(Write(site, aim.text, read.strip(), aim.why, aim.restores))


def _turn(knob: Knob, write: Write) -> int:
    try:
        return knob.turn(write.text, write.before)
    except InputError:
        return 0


def _is_of_a_group_to_be(site: Site, aims: Mapping[Site, Aim]) -> bool:
    """A file of a resctrl group that this very plan makes; nothing was there before, so nothing is to be kept."""
    there = aims.get(Site(site.cgroup, GROUP))
    return there is not None and there.text == PRESENT


def _is_muted(site: Site, aims: Mapping[Site, Aim], scene: Scene) -> bool:
    muting = Site(site.cgroup, scene.knobs[site.file].muted_by)
    text = aims[muting].text if muting in aims else scene.texts.get(muting)
    return (text or "").strip() == "1"


def _is_idle(site: Site, read: str | None, scene: Scene) -> bool:
    """A container without processes has nothing to be written to."""
    return scene.knobs[site.file].of_tasks and not read and not scene.blind


class _Sets:
    """The writes of one kind of set, over the whole tree."""

    def __init__(self, file: str, aims: Mapping[str, Aim], scene: Scene, plan: Plan) -> None:
        self.file, self.aims, self.scene, self.plan = file, dict(aims), scene, plan
        self.now = {cgroup: self._parse(scene.texts.get(Site(cgroup, file))) for cgroup in self._everybody()}
        self.wanted = {cgroup: self._parse(aim.text) for cgroup, aim in aims.items()}
        whole = self._parse(scene.texts.get(outermost(scene.tree, file)))
        # Linux lets nobody empty a set while a task is below it (kernel/cgroup/cpuset.c, validate_change: ENOSPC). All
        # there is comes to the same for every task: effective is what a set has in common with its parent's.
        self.everything = format_cpuset(whole)
        self.whole = whole or frozenset().union(*self.now.values(), *self.wanted.values())

    def write(self) -> None:
        """Append the writes to the plan; refuse what lies outside its parent."""
        shown = {cgroup: (self.scene.texts.get(Site(cgroup, self.file)) or "").strip() for cgroup in self.aims}
        old = self._effective(self.now)
        new = self._effective_new()
        room = self._effective({cgroup: NOTHING if cgroup in self.aims else own for cgroup, own in self.now.items()})
        exclusive = self.scene.exclusive if self.file == "cpuset.cpus" else ()  # memory nodes are for everybody
        moves = {
            cgroup: Move(old[cgroup], new[cgroup], self._parent(cgroup), cgroup in exclusive, room[cgroup])
            for cgroup in self.aims
        }
        steps = in_order(moves) if self.whole else []
        last = {cgroup: place for place, (cgroup, _) in enumerate(steps)}
        knob = self.scene.knobs[self.file]
        for place, (cgroup, held) in enumerate(steps):
            text = format_cpuset(held)
            at_end = place == last[cgroup] and knob.same(self.aims[cgroup].text, text)
            self._add(cgroup, self.aims[cgroup].text if at_end else text, shown)
        for cgroup in sorted(self.aims, key=lambda name: (-name.count("/"), name)):
            aim = self.aims[cgroup]
            if not knob.same(aim.text, shown[cgroup]) or (self.scene.blind and cgroup not in last):
                self._add(cgroup, aim.text, shown)
            elif aim.restores and cgroup not in last:
                self.plan.back.append(Site(cgroup, self.file))
        if self.file == "cpuset.cpus":
            self.plan.sets.update({cgroup: (move.old, move.new) for cgroup, move in moves.items()})

    def _add(self, cgroup: str, text: str, shown: dict[str, str]) -> None:
        aim = self.aims[cgroup]
        fallback = "" if text.strip() else self.everything
        write = Write(Site(cgroup, self.file), text, shown[cgroup], aim.why, aim.restores, fallback)
        self.plan.ordered.append(write)
        shown[cgroup] = text.strip()

    def _everybody(self) -> Iterator[str]:
        for cgroup in self.aims:
            yield cgroup
            yield from self.scene.tree.above(cgroup)

    def _parent(self, cgroup: str) -> str:
        return next((above for above in self.scene.tree.above(cgroup) if above in self.aims), "")

    @staticmethod
    def _parse(text: str | None) -> CpuSet:
        try:
            return parse_cpuset(text or "")
        except InputError:
            return frozenset()

    def _effective(self, own: Mapping[str, CpuSet]) -> dict[str, CpuSet]:
        """Effective = own ∩ effective(parent), or the parent's where that is empty."""
        found: dict[str, CpuSet] = {}
        for cgroup in sorted(self.now, key=lambda name: name.count("/")):
            above = self.scene.tree.above(cgroup)
            up = found[above[0]] if above else self.whole
            found[cgroup] = (own[cgroup] & up) or up
        return found

    def _effective_new(self) -> dict[str, CpuSet]:
        """The sets to be; aims outside their parent's new set are refused and stay as they are."""
        while True:
            own = self.now | self.wanted
            new = self._effective(own)
            outside = [
                cgroup
                for cgroup in self.aims
                if own[cgroup] and not own[cgroup] & new[cgroup] and not self.aims[cgroup].restores
            ]
            if not outside:
                return new
            for cgroup in outside:
                text = self.aims.pop(cgroup).text
                del self.wanted[cgroup]
                why = f"{text} lies outside of {format_cpuset(new[cgroup])}, all its parent may have"
                self.plan.refused[Site(cgroup, self.file)] = why
