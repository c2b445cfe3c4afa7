"""The sizing desk: every hour it sizes every service's containers, says what changed, applies on wish, and watches.

    record + cluster ─► sized ─► RECOMMENDATIONS, if a target moved by more than 10 %
    ApplyRequest, or mode "apply" ─► RESIZES ─► RESIZED heard, the pods' fare compared ─► applied | rolled back (RESIZES)

Everything the next life needs stands in RECOMMENDATIONS (targets in force, what the rules remember, the change under
way, what there was before it). What is lost with a restart: the window before a change that is not asked for yet.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Final

from msgspec.structs import replace

from neap.common.contract.catalogue import RECOMMENDATIONS, RESIZES
from neap.common.contract.channel import Address
from neap.common.errors import InputError, SettingsError
from neap.common.model.lifecycle import Measured
from neap.common.model.qos import QosClass
from neap.common.model.recommendation import (
    ApplyAnswer,
    ApplyRequest,
    ContainerSize,
    Recommendation,
    Resize,
    Resized,
)
from neap.common.model.resource import CPU, MEMORY
from neap.common.model.usage import NodeUsage
from neap.common.model.workload import Workload
from neap.common.runtime.machine import (
    Arrived,
    Count,
    Decide,
    Delete,
    Emit,
    Event,
    Gone,
    Heard,
    Instruction,
    Later,
    Put,
    Synced,
)
from neap.common.units import DAY, Seconds
from neap.foresight.rule import Rule
from neap.foresight.sizing import readiness, saved, sized
from neap.planner.core.cluster import Cluster, Service
from neap.planner.core.desk import SOURCE
from neap.planner.core.keys import key_of, tokens_of
from neap.planner.core.record import Record
from neap.planner.core.sizing import applying
from neap.planner.core.sizing.faring import Faring, some
from neap.planner.core.sizing.kept import Kept
from neap.planner.core.sizing.saying import dedupe_id, is_news, line, merged, version_of
from neap.planner.core.sizing.seen import courses, seen_of, span_of, ways
from neap.planner.core.sizing.settings import SizingSettings
from neap.planner.core.wishes import Wishes

KINDS: Final = frozenset({"Deployment", "StatefulSet", "DaemonSet", "Job"})
LONGEST_WINDOW: Final = 14 * DAY
TOLD: Final = "neap_planner_recommendations_told_total"
RESIZED: Final = "neap_planner_resizes_total"
REFUSED: Final = "neap_planner_sizes_refused_total"
FEWEST: Final = 40  # services sized in one look, where so many are due: half a millisecond each
MOST_WATCHED: Final = 100  # changes under way that are looked at in one look, in turns
ASK_AGAIN: Final[Seconds] = 5.0


class SizingDesk:
    """See module docstring."""

    news: Final = (NodeUsage, Recommendation, Resized)

    def __init__(self, wishes: Wishes, cluster: Cluster, record: Record, rules: Mapping[str, Rule]) -> None:
        self._wishes, self._cluster, self._record, self._rules = wishes, cluster, record, rules
        self._kept: dict[str, Kept] = {}
        self._guarded: dict[str, None] = {}  # with a change under way
        self._left = deque[str]()  # services to look at in this round
        self._faring = Faring(self._key_of)
        self._is_read = False
        self._at: Seconds = 0.0

    # -- Desk --------------------------------------------------------------------------------------------------------

    def hear(self, event: Event) -> Sequence[Instruction]:
        """See Desk."""
        self._at = max(self._at, event.at)
        match event:
            case Arrived(message=NodeUsage() as usage, at=at):
                self._faring.hear(usage, at)
            case Arrived(message=Recommendation() as told):
                self._read(told)
            case Arrived(message=Resized() as outcome, at=at):
                return self._outcome(outcome, at) if self._is_read else (Later(ASK_AGAIN),)
            case Heard(what=ApplyRequest() as request, at=at):
                return self._apply(request, at)
            case Gone(channel=channel, subject=subject) if channel == RECOMMENDATIONS:
                self._drop("/".join(channel.tokens_of(subject).values()))
            case Synced(channel=channel) if channel == RECOMMENDATIONS:
                self._is_read = True
        return ()

    def plan(self, at: Seconds) -> Sequence[Instruction]:
        """See Desk: first the changes under way, then who is due."""
        self._at = max(self._at, at)
        settings = self._wishes.settings.sizing
        self._faring.sweep(at, settings.guard, self._guarded)
        said: list[Instruction] = []
        for key in list(self._guarded)[:MOST_WATCHED]:
            del self._guarded[key]  # to the end
            self._guarded[key] = None
            if (told := self._kept[key].told) is not None:
                said += self._watch(key, told, at)
        for key in self._due(at, settings):
            said += self._size(key, at)
        return said

    def validate(self) -> None:
        """See Desk."""
        for key, kept in self._kept.items():
            told = kept.told
            if told is None:
                continue
            assert key == key_of(told), f"{key}: told as {told.kind}/{told.name}"
            assert not told.state or told.applying is not None, f"{key}: {told.state} without a change"
            for size in told.containers:
                for each in size.requests:
                    most = size.most.get(each.resource, each.target)
                    assert size.least.get(each.resource, 0) <= each.target <= most, f"{key}: {each} is out of bounds"

    def answer(self, request: ApplyRequest) -> ApplyAnswer:
        """What becomes of a wish, or what a recommendation rests on; changes nothing."""
        key = key_of(request)
        if request.show:
            found = courses(self._record, key)
            return ApplyAnswer(accepted=bool(found), says="" if found else f"nothing is known of {key}", courses=found)
        told = self._told(key)
        if told is None:
            return ApplyAnswer(accepted=False, says=f"there is no recommendation for {key}")
        against = self._against(key, told, request)
        says = against or (
            "taken back" if request.undo else "asked for; watched afterwards, taken back if it gets worse"
        )
        return ApplyAnswer(accepted=not against, says=says, version=told.version)

    # -- sizing ------------------------------------------------------------------------------------------------------

    def _due(self, at: Seconds, settings: SizingSettings) -> Iterator[str]:
        """Who is due, of the next in this round: as many as are due meanwhile, and half as many again."""
        services, kept = self._cluster.services, self._kept
        share = math.ceil(1.5 * len(services) * settings.period / settings.every)
        left = min(settings.most, max(FEWEST, share))
        for key in some(self._left, chain(services, (key for key in kept if key not in services))):
            service = services.get(key)
            if service is not None and _is_sized(service.workload):
                kept.setdefault(service.key, Kept())
            mine = kept.get(key)
            if mine is None or at < mine.due:
                continue
            mine.due = at + settings.every
            mine.tighten()
            yield key
            left -= 1
            if left <= 0:
                return

    def _size(self, key: str, at: Seconds) -> Sequence[Instruction]:
        kept, settings, service = self._kept[key], self._wishes.of_service(key).sizing, self._cluster.services.get(key)
        if settings.mode == "off" or service is None or not service.uids or not _is_sized(service.workload):
            return self._forgotten(key, kept.told, settings, at)
        try:
            now = self._recommended(key, kept, service, settings, at)
            address = _address(now)
        except (InputError, SettingsError):
            return (Count(REFUSED),)
        said: list[Instruction] = []
        if is_news(kept.told, now, at, settings.refresh):
            said = [Put(address, now), Count(TOLD)]
            self._note(key, now)
        wants = settings.mode == "apply" and self._is_sure(now, settings)
        if wants and not applying.reason_against(now, settings, at):
            self._note(key, now)
            said = [*said[1:], *self._begin(key, now, settings, at, by="by policy")]
        return said

    def _recommended(
        self, key: str, kept: Kept, service: Service, settings: SizingSettings, at: Seconds
    ) -> Recommendation:
        told, workload = kept.told, service.workload
        placed = max((self._cluster.pods[uid].placed_at for uid in service.uids), default=0.0)
        change = told.applying if told and told.applying and told.applying.at >= placed else None
        done = change if change and applying.DONE & change.outcomes.keys() else None
        found = [seen_of(one, self._record.container(key, one.name), done) for one in workload.containers]
        seen = [one for one in found if one is not None]
        first, last = span_of(seen, at)
        waits, sizes = readiness(first, last, at), list[ContainerSize]()
        for one in seen if not waits else ():
            memories = {name: kept.memory(one.name, name) for name in (CPU, MEMORY)}
            sizes.append(sized(one, ways(settings, self._rules), at, memories))
        if sizes:
            kept.remember((s.name, each.resource, each.memory) for s in sizes for each in s.requests)
        containers = merged(told, sizes, settings.change)
        fresh = Recommendation(
            at=at, source=SOURCE, **tokens_of(key), version=version_of(containers, at), replicas=len(service.uids),
            window=min(last - first, LONGEST_WINDOW) if first is not None else 0.0,
            containers=containers, saves=saved(containers, len(service.uids)), waits=waits,
        )  # fmt: skip
        if told is None:
            return fresh
        same = version_of(containers, 0.0) == version_of(told.containers, 0.0)
        version = told.version if same else fresh.version
        return replace(fresh, version=version, state=told.state, why=told.why, applying=told.applying)

    def _forgotten(
        self, key: str, told: Recommendation | None, settings: SizingSettings, at: Seconds
    ) -> Sequence[Instruction]:
        """What was told of a service that is off, or runs no more, is taken back; of the latter after a while."""
        if told is not None and (settings.mode == "off" or at - told.at >= settings.forget):
            self._drop(key)
            return (Delete(_address(told)),)
        if told is None and key not in self._cluster.services:
            self._drop(key)
        return ()

    # -- applying ----------------------------------------------------------------------------------------------------

    def _against(self, key: str, told: Recommendation, request: ApplyRequest) -> str:
        if not request.undo:
            return applying.reason_against(told, self._wishes.of_service(key).sizing, self._at)
        possible = told.state in (applying.APPLYING, applying.APPLIED)
        return "" if possible else f"there is no change to take back ({told.state or 'none was applied'})"

    def _apply(self, request: ApplyRequest, at: Seconds) -> Sequence[Instruction]:
        key = key_of(request)
        told = self._told(key)
        if told is None or self._against(key, told, request):
            return (Count(REFUSED),)
        if request.undo:
            return self._undo(key, told, at, why="taken back: somebody asked for it")
        settings = replace(self._wishes.of_service(key).sizing, how=request.how)
        return self._begin(key, told, settings, at, by="asked for")

    def _begin(
        self, key: str, told: Recommendation, settings: SizingSettings, at: Seconds, *, by: str
    ) -> Sequence[Instruction]:
        fare = self._faring.of(key, at)
        health = fare.health(at, self._kills(key, at - (fare.before or fare.now).since, at), whole=True)
        fare.turn(at)
        now, resize = applying.begun(told, settings, at, health, how=settings.how, by=by)
        return self._tell(key, now, "resize asked for", resize)

    def _undo(
        self, key: str, told: Recommendation, at: Seconds, *, why: str, numbers: tuple[Measured, ...] = ()
    ) -> Sequence[Instruction]:
        undone = applying.undone(told, at, how=self._wishes.of_service(key).sizing.how, why=why)
        return () if undone is None else self._tell(key, undone[0], "rolled back", undone[1], numbers)

    def _watch(self, key: str, told: Recommendation, at: Seconds) -> Sequence[Instruction]:
        """The guard of a change under way."""
        change, settings = told.applying, self._wishes.of_service(key).sizing
        if change is None:
            return ()
        is_taken = bool(applying.DONE & change.outcomes.keys())
        after = self._faring.of(key, at).health(at, self._kills(key, at - change.at, at), whole=False)
        over = at - change.at >= settings.guard
        worse = applying.harm(change.before, after, settings, over=over) if is_taken else ()
        if worse:
            return self._undo(key, told, at, why=applying.sentence(worse), numbers=worse)
        if is_taken and over:
            return self._tell(key, applying.settled(told, after, at), "resized")
        if not change.outcomes and at - change.at >= settings.patience:
            return self._tell(key, applying.given_up(told, at, settings.patience), "resize given up")
        return ()

    def _outcome(self, outcome: Resized, at: Seconds) -> Sequence[Instruction]:
        key = key_of(outcome)
        was = self._told(key)
        now = applying.heard(was, outcome, at) if was else None
        if was is None or now is None:
            return ()
        if now.state == applying.REFUSED != was.state:
            return self._tell(key, now, "resize refused")
        self._note(key, now)
        return (Put(_address(now), now),)

    def _tell(
        self, key: str, now: Recommendation, what: str, resize: Resize | None = None,
        numbers: tuple[Measured, ...] = (),
    ) -> Sequence[Instruction]:  # fmt: skip
        self._note(key, now)
        said: list[Instruction] = [
            Put(_address(now), now),
            Decide(line(now, what, now.at, numbers=numbers)),
            Count(RESIZED, labels={"what": what}),
        ]
        if resize is not None:
            said.insert(1, Emit(RESIZES.at(namespace=now.namespace), resize, dedupe_id(resize)))
        return said

    # -- small facts -------------------------------------------------------------------------------------------------

    def _read(self, told: Recommendation) -> None:
        """What an earlier life said, or the echo of what this one says."""
        key = key_of(told)
        before = self._told(key)
        if before is None or told.at > before.at:
            self._note(key, told)

    def _told(self, key: str) -> Recommendation | None:
        """What was told last."""
        kept = self._kept.get(key)
        return None if kept is None else kept.told

    def _note(self, key: str, now: Recommendation) -> None:
        """This is what was told last."""
        self._kept.setdefault(key, Kept()).tell(now, loosely=not self._is_read)
        if now.state == applying.APPLYING:
            self._guarded[key] = None
        else:
            self._guarded.pop(key, None)

    def _drop(self, key: str) -> None:
        self._kept.pop(key, None)
        self._guarded.pop(key, None)

    def _key_of(self, uid: str) -> str:
        pod = self._cluster.pods.get(uid)
        return pod.key if pod is not None and _is_sized(pod.workload) else ""

    def _kills(self, key: str, span: Seconds, at: Seconds) -> int:
        records = (self._record.container(key, name) for name in self._record.containers(key))
        return sum(1 for record in records if record for kill in record.ooms if at - span < kill.at <= at)

    def _is_sure(self, now: Recommendation, settings: SizingSettings) -> bool:
        sums = [each for size in now.containers for each in size.requests]
        return bool(sums) and min(each.confidence for each in sums) >= settings.least_confidence


def _is_sized(workload: Workload) -> bool:
    return workload.owner.partition("/")[0] in KINDS and workload.qos is not QosClass.RECLAIMED


def _address(told: Recommendation) -> Address[Recommendation]:
    return RECOMMENDATIONS.at(namespace=told.namespace, kind=told.kind, name=told.name)
