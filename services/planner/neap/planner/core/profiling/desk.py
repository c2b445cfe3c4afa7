"""The profiles desk: every service is looked at in its turn, and what is news of it is told.

    usage ─► windows per machine type (measured) ┐
    record ─► portrait, 99th percentile           ├─► profile ─► version by content ─► news? ─► PROFILES
    pods, policy ─► baseline and its sentinel     ┘

Who told a profile keeps it: what people said (gateway, console) is never written over, not even in part; what was
measured meanwhile is told by the endpoint beside it, and takes over when theirs is taken back. Published profiles are
the desk's memory as well: its next life reads them back. Services are looked at in turns, `most` per tick, so that
100,000 of them are never told at once.
Source: requirements 1.5; Katalyst SPD controller.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from neap.common.contract.catalogue import MACHINE_TYPES, NODES, PLACEMENTS, PROFILES, TOPOLOGY
from neap.common.contract.channel import Channel
from neap.common.errors import InputError
from neap.common.model.lifecycle import Started
from neap.common.model.past import PastUsage
from neap.common.model.placement import Checkpoint, Placed, Released
from neap.common.model.profile import (
    CLASSES,
    DISK_IO,
    MEMORY_BANDWIDTH,
    Baseline,
    MachineTypes,
    Observation,
    ProfileAnswer,
    ProfileRequest,
    ServiceProfile,
    Window,
    class_key,
    sentinel,
)
from neap.common.model.resource import CPU, MEMORY
from neap.common.model.usage import NodeUsage
from neap.common.runtime.machine import Arrived, Count, Delete, Event, Gone, Instruction, Put, Synced
from neap.common.units import HOUR, Seconds
from neap.planner.core import lean
from neap.planner.core.cluster import Cluster
from neap.planner.core.desk import SOURCE, counts
from neap.planner.core.keys import key_of, tokens_of
from neap.planner.core.profiling.classes import Classes
from neap.planner.core.profiling.measured import Measured
from neap.planner.core.profiling.portrait import parts_of, portrait_of, swing_of, used_of
from neap.planner.core.profiling.settings import ProfilingSettings
from neap.planner.core.profiling.version import is_news, versioned
from neap.planner.core.record import Record
from neap.planner.core.wishes import Wishes

CLUSTER: Final = "local"
MOST_PAST: Final = 10_000
LEFT_OUT: Final = "neap_planner_profile_samples_left_out_total"
TOLD: Final = "neap_planner_profiles_told_total"
UNNAMEABLE: Final = "neap_planner_profiles_unnameable_total"

_PACKING: Final = lean.Packing(
    ServiceProfile(
        at=1.7e9, source=SOURCE, key="/Deployment/", version="",
        observations=tuple(
            Observation(
                kind=kind, machine="", windows=(Window(start=1.7e9, containers={"main": 1e6}),), pod_hours=1.0, spread=0.1
            )
            for kind in (DISK_IO, MEMORY_BANDWIDTH)
        ),
        portrait={CPU: (1000.0,), MEMORY: (1e9,)}, used={CPU: 1000.0, MEMORY: 1e9}, swing={CPU: (1.0,)},
    )
)  # fmt: skip


class Profiling:
    """See module docstring."""

    news: Final = (NodeUsage, Placed, Checkpoint, Released, Started, ServiceProfile, PastUsage)

    def __init__(self, wishes: Wishes, cluster: Cluster, record: Record) -> None:
        self._wishes, self._cluster, self._record = wishes, cluster, record
        kinds = wishes.settings.profiling.all_kinds
        self._measured = Measured(cluster, kinds, lambda key: self._settings(key).rule, self._remembered)
        self._unread: list[Channel[Any]] = [PROFILES, PLACEMENTS, TOPOLOGY, NODES]  # reports mean nothing before
        self._told: dict[str, bytes] = {}  # packed, of whoever told it
        self._ours: dict[str, None] = {}  # of those the desk's own services
        self._aside: dict[str, bytes] = {}  # measured, where people told another one
        self._classes = Classes()
        self._waiting: deque[str] = deque()
        self._past: dict[str, None] = {}  # services somebody told the past of: not to wait for their turn
        self._round = -math.inf  # when the round that runs or ran last began
        self._types: MachineTypes | None = None
        self._is_gathering = False
        self._read: tuple[bytes | None, ServiceProfile | None] = (None, None)  # the newest that was decoded

    # -- hearing -----------------------------------------------------------------------------------------------------

    def hear(self, event: Event) -> Sequence[Instruction]:
        """See Desk."""
        match event:
            case Arrived(message=NodeUsage() as usage, at=at) if not self._unread:
                return counts(LEFT_OUT, self._measured.take(usage, at))
            case Arrived(message=Placed(placement=placement)):
                self._measured.leave(placement.workload.uid)
            case Arrived(message=Checkpoint(placements=placements)):
                for placement in placements:
                    self._measured.leave(placement.workload.uid)
            case Arrived(message=Released(uid=uid) | Started(uid=uid)):
                self._measured.leave(uid)
            case Arrived(message=ServiceProfile() as profile):
                self._learn(profile)
            case Arrived(message=PastUsage() as told) if told.container and len(self._past) < MOST_PAST:
                self._past[key_of(told)] = None
            case Synced(channel=channel) if channel in self._unread:
                self._unread.remove(channel)
            case Gone(channel=channel, subject=subject) if channel == PROFILES:
                key = "/".join(PROFILES.tokens_of(subject).values())
                self._told.pop(key, None)
                self._ours.pop(key, None)
            case Gone(channel=channel, subject=subject) if channel == TOPOLOGY:
                self._measured.forget_node(TOPOLOGY.tokens_of(subject)["node"])
        return ()

    def _learn(self, profile: ServiceProfile) -> None:
        if profile.key.count("/") < 2:
            return  # nobody's
        service = self._cluster.services.get(profile.key)
        key = service.key if service is not None else profile.key  # one string for all
        self._told[key] = _PACKING.loose(profile) if self._unread else _PACKING.packed(profile)
        if profile.source == SOURCE and not key.startswith(CLASSES):
            self._ours[key] = None
        else:
            self._ours.pop(key, None)

    def _remembered(self, key: str) -> Sequence[Observation]:
        before = self._standing(key) if key in self._ours else None
        return () if before is None else before.observations

    # -- planning ----------------------------------------------------------------------------------------------------

    def plan(self, at: Seconds) -> Sequence[Instruction]:
        """See Desk."""
        settings = self._wishes.settings.profiling
        said = self._tell_types(settings, at)
        if not self._waiting and at >= self._round + settings.again:
            self._round, self._is_gathering = at, True
            self._measured.prune(int(at // HOUR))
            services = (key for key, service in self._cluster.services.items() if service.uids)
            self._waiting.extend(dict.fromkeys((*self._measured.lines, *self._record.keys(), *self._ours, *services)))
        for key in list(self._past)[: settings.most]:
            del self._past[key]
            said += [] if (mine := self._draft(key, at)) is None else self._tell(mine, at)
        for _ in range(min(settings.most, len(self._waiting))):
            said += self._review(self._waiting.popleft(), at)
        if self._is_gathering and not self._waiting:
            self._is_gathering = False
            share, peers = settings.peer_quantile, settings.peers
            for profile in self._classes.told(at, SOURCE, share=share, peers=peers):
                said += self._tell(profile, at)
        return said

    def _tell_types(self, settings: ProfilingSettings, at: Seconds) -> list[Instruction]:
        """The table, at the start and when it changed."""
        if self._types is not None and self._types.types == settings.types:
            return []
        self._types = MachineTypes(at=at, source=SOURCE, types=settings.types)
        return [Put(MACHINE_TYPES.at(cluster=CLUSTER), self._types)]

    def _review(self, key: str, at: Seconds) -> list[Instruction]:
        self._measured.close(key, at)
        if (told := self._told.get(key)) is not None:
            self._told[key] = _PACKING.tight(told)
        service = self._cluster.services.get(key)
        has_pods = service is not None and bool(service.uids)
        if not has_pods and at - self._last(key) > self._settings(key).forget:
            return self._forget(key)
        mine = self._draft(key, at)
        if service is not None and has_pods and mine is not None:
            self._classes.add(service.workload.qos, mine.observations)
        return [] if mine is None else self._tell(mine, at)

    def _draft(self, key: str, at: Seconds) -> ServiceProfile | None:
        """What is known of a service now; None if nothing is."""
        settings, before = self._settings(key), self._standing(key)
        parts = parts_of(self._record, key)
        portrait = portrait_of(parts, days=settings.days, share=settings.quantile)
        used, swing = used_of(parts), swing_of(parts, days=settings.days)
        if before is not None and before.source == SOURCE:  # what is not known any more stands until it is forgotten
            portrait, used = {**before.portrait, **portrait}, {**before.used, **used}
            swing = {**before.swing, **swing}
        observations = self._measured.observations(key)
        if key not in self._measured.lines and before is not None and before.source == SOURCE:
            observations = before.observations
        if not (observations or portrait or used or settings.baseline):
            return None
        return versioned(
            ServiceProfile(
                at=at,
                source=SOURCE,
                key=key,
                version="",
                observations=observations,
                baseline=self._baseline(key, settings.baseline),
                portrait=portrait,
                used=used,
                swing=swing,
            )
        )

    def _baseline(self, key: str, percent: int) -> Baseline:
        service = self._cluster.services.get(key)
        if not percent or service is None:
            return Baseline()
        pods = (self._cluster.pods[uid] for uid in service.uids)
        return Baseline(
            percent=percent, sentinel=sentinel(((pod.placed_at, pod.workload.name) for pod in pods), percent)
        )

    def _tell(self, profile: ServiceProfile, at: Seconds) -> list[Instruction]:
        """Publish what is news, unless somebody else told it."""
        before, settings = self._standing(profile.key), self._settings(profile.key)
        if before is not None and before.source != SOURCE:
            self._aside[profile.key] = _PACKING.packed(profile)
            return []
        self._aside.pop(profile.key, None)
        is_old = before is not None and before.version != profile.version and at - before.at >= settings.refresh
        if before is not None and not is_old and not is_news(before, profile, settings.change):
            return []
        try:
            address = PROFILES.at(**tokens_of(profile.key))
        except InputError:
            return [Count(UNNAMEABLE)]
        return [Put(address, profile), Count(TOLD)]

    def _forget(self, key: str) -> list[Instruction]:
        self._measured.drop(key)
        self._aside.pop(key, None)
        before = self._standing(key)
        if before is None or before.source != SOURCE:
            return []
        return [Delete(PROFILES.at(**tokens_of(key)))]

    # -- answering ---------------------------------------------------------------------------------------------------

    def answer(self, asked: ProfileRequest) -> ProfileAnswer:
        """The endpoint PROFILE."""
        key = key_of(asked)
        told = self._standing(key)
        aside = self._aside.get(key)
        measured = _PACKING.unpacked(aside) if aside is not None else None
        return ProfileAnswer(profile=told, says="; ".join(self._remarks(key, told)), measured=measured)

    def _remarks(self, key: str, told: ServiceProfile | None) -> list[str]:
        said = [f"no value per core: {self._measured.lacks[key]}"] if key in self._measured.lacks else []
        if told is None:
            service = self._cluster.services.get(key)
            its_class = "" if service is None else class_key(service.workload.qos)
            instead = f", that of its class {its_class} stands in" if its_class in self._told else ""
            return [f"profile: none, no window of it is complete{instead}", *said]
        if told.source != SOURCE:
            said.append(f"told by the {told.source}; what was measured is not put in its place")
        for one in told.observations:
            where = f"on {one.machine}" if one.machine else "on machines of unknown type"
            if not one.stable:
                spread = f" by {one.spread:.0%}" if one.spread is not None else ""
                said.append(f"{one.kind} {where} is unstable: pods differ{spread}; p90 counts, not the mean")
        if not told.portrait:
            said.append("no portrait: an hour of the day was never seen")
        return said

    # -- the rest ----------------------------------------------------------------------------------------------------

    def validate(self) -> None:
        """See Desk."""
        self._measured.validate()
        for key, told in self._told.items():
            assert _PACKING.unpacked(told).key == key, f"profile of {key} stands under another key"

    def _settings(self, key: str) -> ProfilingSettings:
        if not key or key.startswith(CLASSES):
            return self._wishes.settings.profiling
        return self._wishes.of_service(key).profiling

    def _standing(self, key: str) -> ServiceProfile | None:
        told = self._told.get(key)
        if told is not self._read[0]:  # one look asks several times
            self._read = (told, None if told is None else _PACKING.unpacked(told))
        return self._read[1]

    def _last(self, key: str) -> Seconds:
        parts = (self._record.container(key, name) for name in self._record.containers(key))
        seen = [part.last for part in parts if part is not None]
        before = self._standing(key) if not seen and not self._measured.last(key) else None
        return max([self._measured.last(key), *seen, before.at if before is not None else 0.0])
