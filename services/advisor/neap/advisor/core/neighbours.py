"""The interference detector of a node: reports in; who is held back, who should go, who belongs apart out.

Who suffers from whom says interference.py, what is done about it curbing.py; here they meet the node's pods. One owner
has one guest held back at a time for one signal, and a guest stands for one owner.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias

import msgspec
from msgspec.structs import replace

from neap.advisor.core import interference as seen
from neap.advisor.core.curbing import (
    ACQUITTED,
    CUT,
    GONE,
    PROVED,
    RELEASED,
    SHOULD_LEAVE,
    Case,
    Step,
    first_quota,
    named,
    turned,
)
from neap.advisor.core.hearing import by_pod
from neap.advisor.core.indicators import stalled, total
from neap.advisor.core.interference import Felt, Interference, Known, Neighbour, Suspect
from neap.advisor.core.layout import Layout
from neap.advisor.core.pod import Pod, Track
from neap.common.contract.catalogue import APART
from neap.common.cpuset import parse_cpuset
from neap.common.errors import InputError
from neap.common.model.advice import Knobs, Noisy
from neap.common.model.apart import MOST_PAIRS, Apart, Pair
from neap.common.model.lifecycle import Measured
from neap.common.model.protection import family
from neap.common.model.trail import TrailEntry
from neap.common.model.usage import ContainerUsage
from neap.common.runtime.machine import Decide, Instruction, Put
from neap.common.telemetry.span import object_context
from neap.common.units import Ratio, Seconds, format_bytes

SOURCE: Final = "advisor"
IO_WEIGHT: Final = 100  # the kernel's default
IO_WEIGHT_HELD: Final = 1  # the least
SAID: Final = {
    CUT: "throttled",
    PROVED: "throttled",
    RELEASED: "unthrottled",
    ACQUITTED: "unthrottled",
    GONE: "unthrottled",
    SHOULD_LEAVE: "should leave",
}


Places: TypeAlias = dict[tuple[str, ...], tuple[frozenset[int], frozenset[int]]]


class Neighbourhood(msgspec.Struct, frozen=True, kw_only=True):
    """All that is remembered between reports."""

    known: Known = Known()
    cases: dict[str, Case] = {}  # by uid of the guest
    pairs: dict[str, Pair] = {}  # by both families
    untold: bool = False  # the bus did not take them


class Story(NamedTuple):
    """Something happened to a case."""

    uid: str
    case: Case
    what: str  # of curbing, or "named"


class Scene(NamedTuple):
    """What a report says."""

    at: Seconds
    node: str
    pods: Sequence[Pod]
    tracks: Mapping[str, Track]
    containers: Sequence[ContainerUsage]
    layout: Layout


def judge(before: Neighbourhood, scene: Scene, rules: Interference) -> tuple[Neighbourhood, list[Instruction]]:
    """After one more report, with what is to be said of it."""
    after, told = judged(before, scene, rules)
    said: list[Instruction] = [Decide(line) for line in lines(told, scene)]
    if after.untold or after.pairs != before.pairs:
        pairs = tuple(after.pairs.values())
        said.append(Put(APART.at(node=scene.node), Apart(at=scene.at, source=SOURCE, node=scene.node, pairs=pairs)))
        after = replace(after, untold=False)
    return after, said


def judged(before: Neighbourhood, scene: Scene, rules: Interference) -> tuple[Neighbourhood, list[Story]]:
    """After one more report. Cost: O(pods × signals), and O(guests × window) for an owner that suffers."""
    if not rules.on and before == Neighbourhood():
        return before, []
    pods = {pod.uid: pod for pod in scene.pods}
    here = neighbours(scene) if rules.on else []
    known, felt = seen.heard(before.known, here, rules) if rules.on else (Known(), {})
    cases, told = _turn(before.cases, pods, felt, rules)
    if rules.on:
        _name(known, {one.uid: one for one in here}, felt, cases, told, pods, scene, rules)
    pairs = {key: pair for key, pair in before.pairs.items() if pair.until > scene.at}
    for _, case, _ in told:
        if case.is_sure:
            pair = _pair(case, scene.at + rules.apart)
            pairs[f"{pair.owner}|{pair.guest}"] = pair
    kept = sorted(pairs.items(), key=lambda item: (-item[1].until, item[0]))[:MOST_PAIRS]
    return replace(before, known=known, cases=cases, pairs=dict(sorted(kept))), told


def _turn(
    cases: Mapping[str, Case], pods: Mapping[str, Pod], felt: Felt, rules: Interference
) -> tuple[dict[str, Case], list[Story]]:
    after: dict[str, Case] = {}
    told: list[Story] = []
    for uid, case in sorted(cases.items()):
        if uid not in pods or pods[uid].workload.attempt != case.attempt:
            continue
        feeling = felt.get((case.owner, case.signal))
        turn = turned(case, feeling, rules, owner_here=rules.on and case.owner in pods)
        if turn.case is not None:
            after[uid] = turn.case
        if turn.what and turn.case is not None:
            told.append(Story(uid, turn.case, turn.what))
    return after, told


def _name(
    known: Known,
    here: Mapping[str, Neighbour],
    felt: Felt,
    cases: dict[str, Case],
    told: list[Story],
    pods: Mapping[str, Pod],
    scene: Scene,
    rules: Interference,
) -> None:
    """New suspects; an owner that somebody is held back for already waits for what comes of it."""
    busy = {case.owner for case in cases.values() if case.step is Step.CURBED}
    guests = [one for one in here.values() if not one.owner and one.uid in pods]
    for uid, signal in seen.sufferings(felt, rules):
        if uid in busy or uid not in pods:
            continue
        free = [one for one in guests if cases.get(one.uid) is None or cases[one.uid].step is not Step.CURBED]
        found = seen.suspect(known, here[uid], signal, free, rules)
        if found is None:
            continue
        guest = found.guest.uid
        case = named(_case(found, pods[uid], pods[guest], signal, felt, scene, rules), cases.get(guest), rules)
        if case is not None:
            cases[guest] = case
            busy.add(uid)
            told.append(Story(guest, case, "named"))


def _case(found: Suspect, owner: Pod, guest: Pod, signal: str, felt: Felt, scene: Scene, rules: Interference) -> Case:
    feeling = felt[owner.uid, signal]
    used = scene.tracks[guest.uid].likely
    quota = first_quota(used, rules)
    load = scene.tracks[owner.uid].now or 0.0
    why = (
        f"{owner.workload.key} feels {signal} {feeling.value:.3g}, usual at {load:.1f} cores is {feeling.usual:.3g}, "
        f"in {feeling.hits} of {rules.of} reports beyond {feeling.limit:.3g}; {guest.workload.key}'s {found.use} "
        f"({_amount(found)}) goes with it: r {found.r:.2f} over {found.samples} reports, {found.share:.0%} of what "
        f"guests near it do"
    )
    return Case(
        attempt=guest.workload.attempt,
        owner=owner.uid,
        guest_name=guest.workload.key,
        owner_name=owner.workload.key,
        guest_family=family(guest.workload),
        owner_family=family(owner.workload),
        signal=signal,
        value=feeling.value,
        threshold=feeling.limit,
        since=scene.at,
        before=feeling.excess,
        why=why,
        quota=quota,
    )


def _amount(found: Suspect) -> str:
    value = found.guest.uses[found.use]
    return (
        f"{value:.1f}"
        if found.use == seen.CORES
        else f"{format_bytes(int(value))}{'/s' * (found.use != seen.WORKING_SET)}"
    )


# -- what becomes of it --------------------------------------------------------------------------------------------


def held(before: Neighbourhood) -> dict[str, Knobs]:
    """What is advised beside a guest's other knobs, by uid: quotas, and at the disk a weight, or that one's end."""
    found: dict[str, Knobs] = {}
    for uid, case in before.cases.items():
        at_disk, curbed = case.signal == seen.DISK, case.step is Step.CURBED
        weight = (IO_WEIGHT_HELD if curbed else IO_WEIGHT) if at_disk else None
        found[uid] = Knobs(cpu_max=case.quota if curbed else None, io_weight=weight)
    return found


def noisy(before: Neighbourhood) -> tuple[Noisy, ...]:
    """For the advice."""
    return tuple(
        Noisy(
            uid=uid,
            attempt=case.attempt,
            owner=case.owner_name,
            signal=case.signal,
            value=case.value,
            threshold=case.threshold,
            since=case.since,
            quota=case.quota,
            leave=case.leave,
            reason=case.why,
        )
        for uid, case in before.cases.items()
        if case.step is Step.CURBED
    )


def kept(before: Neighbourhood) -> Neighbourhood:
    """What is worth remembering: not the window, which is full again soon and large."""
    return replace(before, known=replace(before.known, rows=()))


def together(remembered: Neighbourhood, heard: Neighbourhood) -> Neighbourhood:
    """What an earlier life knew, and what was read since."""
    return replace(remembered, pairs=remembered.pairs | heard.pairs)


def recalled(before: Neighbourhood, said: Apart) -> Neighbourhood:
    """Pairs that were said, by this life or an earlier one."""
    told = {f"{pair.owner}|{pair.guest}": pair for pair in said.pairs}
    return replace(before, pairs=told | before.pairs)


def untold(before: Neighbourhood) -> Neighbourhood:
    """The bus did not take the pairs: they are said again."""
    return replace(before, untold=True)


def lines(told: Iterable[Story], scene: Scene) -> list[TrailEntry]:
    """For the trails of the guest, and of the owner when somebody is named."""
    by_uid = {pod.uid: pod for pod in scene.pods}
    found: list[TrailEntry] = []
    for uid, case, what in told:
        why, number = _why(case, what), Measured(metric=case.signal, value=case.value, threshold=case.threshold)
        word = SAID.get(what, "throttled")
        found.append(_line(by_uid[uid], word, why, number, scene))
        if what == "named" and case.owner in by_uid:
            whom = f"{case.why}; {case.guest_name} is held to {case.quota:.3g} cores"
            found.append(_line(by_uid[case.owner], "disturbed", whom, number, scene))
    return found


def _why(case: Case, what: str) -> str:
    quota, owner = f"{case.quota:.3g} cores", case.owner_name
    match what:
        case "named":
            again = f", for the {case.lapses + 1}. time" if case.lapses else ""
            return f"{case.why}; held to {quota}{again}" + ("; it should go" if case.leave else "")
        case str() if what in (CUT, PROVED):
            helped = "that helped, but not enough" if case.relieved else "that did not help yet"
            return f"{owner} suffers still: {helped}; held to {quota} now"
        case str() if what == RELEASED:
            return f"{owner} is well ({case.calm} reports without an outlier): its quota of {quota} is lifted"
        case str() if what == ACQUITTED:
            return f"held to {quota} it made no difference to {owner}: not the reason, its quota is lifted"
        case str() if what == SHOULD_LEAVE:
            return f"{case.why}; held to {quota}, {case.low} reports later {owner} suffers still"
    return f"{owner} is gone from here: its quota of {quota} is lifted"


def _line(pod: Pod, what: str, why: str, number: Measured, scene: Scene) -> TrailEntry:
    work = pod.workload
    return TrailEntry(
        at=scene.at,
        source=SOURCE,
        id=f"{work.uid}.{work.attempt}.{what.replace(' ', '-')}.{int(scene.at * 1000)}",
        about=pod.about,
        what=what,
        why=why,
        numbers=(number,),
        node=scene.node,
        trace=object_context(pod.about).trace,
        parent=work.owner,
    )


def _pair(case: Case, until: Seconds) -> Pair:
    return Pair(owner=case.owner_family, guest=case.guest_family, until=until, why=case.why)


# -- what a report says of the pods ----------------------------------------------------------------------------------


def neighbours(scene: Scene) -> list[Neighbour]:
    """All pods of the ledger, by uid."""
    by_uid, places = by_pod(scene.containers), Places()
    tracks, layout = scene.tracks, scene.layout
    return [_neighbour(pod, tracks[pod.uid], by_uid.get(pod.uid, []), layout, places) for pod in scene.pods]


def _place(lists: Iterable[str], layout: Layout) -> tuple[frozenset[int], frozenset[int]]:
    """Physical cores and NUMA nodes of some CPU lists."""
    cpus = frozenset[int]().union(*(_cpus(text) for text in lists))
    cores = frozenset(layout.core_of[cpu] for cpu in cpus if cpu in layout.core_of)
    return cores, frozenset(layout.cores[core].numa for core in cores)


def _neighbour(
    pod: Pod, track: Track, containers: Sequence[ContainerUsage], layout: Layout, places: Places
) -> Neighbour:
    lists = tuple(sorted({one.cpuset for one in containers if one.cpuset}))
    if lists not in places:
        places[lists] = _place(lists, layout)
    cores, numa = places[lists]
    uses: dict[str, float | None] = {seen.CORES: track.now}
    feels: dict[str, float | None] = {}
    if pod.is_owner:
        feels = {seen.STALL: track.stall, **track.signals}
        feels[seen.MEMORY] = _worst(stalled(one.memory_stall) for one in containers)
        feels[seen.DISK] = _worst(stalled(one.io_stall) for one in containers)
    else:
        uses[seen.BANDWIDTH] = total(one.bandwidth for one in containers)
        uses[seen.WORKING_SET] = total(one.working_set for one in containers)
        uses[seen.TRAFFIC] = total(_both(one.io_read, one.io_write) for one in containers)
    return Neighbour(
        uid=pod.uid,
        owner=pod.is_owner,
        load=track.now,
        cores=cores,
        numa=numa,
        feels={name: value for name, value in feels.items() if value is not None},
        uses={name: value for name, value in uses.items() if value is not None},
    )


@lru_cache(maxsize=1024)
def _cpus(text: str) -> frozenset[int]:
    try:
        return parse_cpuset(text)
    except InputError:
        return frozenset()


def _both(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other


def _worst(shares: Iterable[Ratio | None]) -> Ratio | None:
    """Of what is known."""
    return max((share for share in shares if share is not None), default=None)
