"""The profiles desk with a cluster of plain values, a record of plain values, and the bus fed back to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from msgspec.structs import replace

from neap.common.contract.catalogue import NODES, PLACEMENTS, PROFILES, TOPOLOGY
from neap.common.model.lifecycle import Started
from neap.common.model.node import NodeObject
from neap.common.model.placement import Placed, Placement, Released
from neap.common.model.profile import MACHINE_LABEL, MachineTypes, ProfileRequest, ServiceProfile
from neap.common.model.usage import ContainerUsage, NodeUsage
from neap.common.model.workload import Workload
from neap.common.runtime.machine import Arrived, Count, Delete, Event, Gone, Instruction, Put, Synced
from neap.foresight.histogram import CPU, MEMORY, Histogram
from neap.foresight.series import Series
from neap.planner.core.cluster import Cluster
from neap.planner.core.profiling.desk import Profiling
from neap.planner.core.profiling.settings import ProfilingSettings
from neap.planner.core.record import ContainerRecord, Used
from neap.planner.core.wishes import Wishes
from neap.planner.settings import Settings
from neap.planner.wiring import tunable
from tests.unit.scheduler_world import an_owner

HOUR = 3600.0
START = 1_724_342_400.0  # a full hour


class Remembered:
    """A record that holds what it was given."""

    def __init__(self) -> None:
        self.parts: dict[str, dict[str, ContainerRecord]] = {}

    def give(self, key: str, cpu: Sequence[float], memory: Sequence[float], *, last: float = START) -> None:
        """Cores and bytes by hour up to `last`, of one container."""
        used = []
        for hours, buckets in ((cpu, CPU), (memory, MEMORY)):
            series = Series(last - len(hours) * HOUR, HOUR, np.array(hours, dtype=float))
            histogram = Histogram(buckets)
            histogram.add_all(series.values, np.full(len(hours), last))
            used.append(Used(histogram, series, series, float("nan")))
        cores, held = used
        self.parts[key] = {"main": ContainerRecord("main", last - len(cpu) * HOUR, last, len(cpu), cores, held)}

    def container(self, key: str, container: str) -> ContainerRecord | None:
        return self.parts.get(key, {}).get(container)

    def nodes(self) -> Sequence[str]:
        return ()

    def containers(self, key: str) -> Sequence[str]:
        return sorted(self.parts.get(key, {}))

    def keys(self) -> Sequence[str]:
        return sorted(self.parts)

    def total(self, key: str, resource: str) -> Series | None:
        return None

    def replicas(self, key: str) -> Series | None:
        return None

    def track(self, key: str) -> None:
        pass

    def node(self, node: str, resource: str, how: Any = "avg") -> Series | None:
        return None


class World:
    """See module docstring. `told` is what the bus stores."""

    def __init__(self, told: Mapping[str, ServiceProfile] | None = None, **settings: Any) -> None:
        default = Settings(profiling=ProfilingSettings(**{"samples": 1, "peers": 2} | settings))
        self.wishes, self.cluster, self.record = Wishes(tunable(), default), Cluster(), Remembered()
        self.desk = Profiling(self.wishes, self.cluster, self.record)
        self.at, self.seq = START, 0
        self.told: dict[str, ServiceProfile] = {}
        self.counts: dict[str, float] = {}
        self.puts: list[ServiceProfile] = []
        self.types: MachineTypes | None = None
        for profile in (told or {}).values():
            self.hear_profile(profile)
        for channel in (PROFILES, PLACEMENTS, TOPOLOGY, NODES):
            self.hear(Synced(self.at, channel))

    def hear(self, event: Event) -> None:
        self.wishes.hear(event)
        self.cluster.hear(event)
        self._do(self.desk.hear(event))
        self.desk.validate()

    def hear_profile(self, profile: ServiceProfile) -> None:
        self.told[profile.key] = profile
        self.hear(Arrived(self.at, profile, _subject(profile.key)))

    def lose_profile(self, key: str) -> None:
        del self.told[key]
        self.hear(Gone(self.at, PROFILES, _subject(key)))

    def plan(self) -> None:
        self._do(self.desk.plan(self.at))
        self.desk.validate()

    def live(self, hours: float, *, step: float = 600.0) -> None:
        """Let time pass; the desk looks every `step`."""
        until = self.at + hours * HOUR
        while self.at < until:
            self.at += step
            self.plan()

    def run(self, *workloads: Workload, on: str = "n1") -> None:
        for workload in workloads:
            entry = Placed(
                at=self.at,
                source="t",
                node=on,
                placement=Placement(workload=workload, charged=workload.requests),
                reason="",
            )
            self.hear(Arrived(self.at, entry))

    def start(self, workload: Workload, on: str = "n1", **containers: str) -> None:
        told = Started(at=self.at, source="t", uid=workload.uid, attempt=1, node=on, containers=containers)
        self.hear(Arrived(self.at, told))

    def end(self, uid: str, on: str = "n1") -> None:
        self.hear(Arrived(self.at, Released(at=self.at, source="t", node=on, uid=uid, reason="")))

    def label(self, node: str, machine: str) -> None:
        self.hear(Arrived(self.at, NodeObject(at=self.at, source="t", node=node, labels={MACHINE_LABEL: machine})))

    def report(self, *used: ContainerUsage, on: str = "n1", at: float | None = None, **more: Any) -> None:
        self.seq += 1
        when = self.at if at is None else at
        told = NodeUsage(at=when, source="t", node=on, seq=self.seq, period=60.0, containers=used)
        self.hear(Arrived(self.at, replace(told, **more)))

    def use(self, uids: Mapping[str, float], on: str = "n1", **more: Any) -> None:
        """One report with this memory bandwidth by pod."""
        self.report(*(used(uid, bandwidth=amount) for uid, amount in uids.items()), on=on, **more)

    def ask(self, key: str) -> Any:
        namespace, kind, name = key.split("/")
        return self.desk.answer(ProfileRequest(namespace=namespace, kind=kind, name=name))

    def _do(self, said: Sequence[Instruction]) -> None:
        for one in said:
            match one:
                case Put(value=ServiceProfile() as profile):
                    self.puts.append(profile)
                    self.hear_profile(profile)
                case Put(value=MachineTypes() as types):
                    self.types = types
                case Delete(key=address):
                    self.lose_profile("/".join(PROFILES.tokens_of(address.subject).values()))
                case Count(metric=metric, by=by, labels=labels):
                    name = labels.get("why", metric)
                    self.counts[name] = self.counts.get(name, 0.0) + by


def used(uid: str, **more: Any) -> ContainerUsage:
    return ContainerUsage(**{"uid": uid, "container": f"c-{uid}", "cgroup": f"/{uid}"} | more)


def feed(count: int, *, cores: float = 1.0, name: str = "feed") -> list[Workload]:
    """Pods of one Deployment."""
    return [an_owner(f"{name}-{i}", owner=f"Deployment/{name}", cores=cores) for i in range(count)]


def _subject(key: str) -> str:
    namespace, kind, name = key.split("/")
    return PROFILES.at(namespace=namespace, kind=kind, name=name).subject


__all__ = ["HOUR", "START", "Remembered", "Synced", "World", "feed", "used"]
