"""The sizing desk with a cluster and a record of plain values, and the bus fed back to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from neap.common.contract.catalogue import POLICY, RECOMMENDATIONS
from neap.common.model.placement import Placed, Placement, Released
from neap.common.model.recommendation import ApplyAnswer, ApplyRequest, Recommendation, Resize, Resized
from neap.common.model.resource import CPU, MEMORY
from neap.common.model.trail import TrailEntry
from neap.common.model.usage import ContainerUsage, NodeUsage, Stall
from neap.common.runtime.machine import (
    Arrived,
    Count,
    Decide,
    Delete,
    Emit,
    Event,
    Heard,
    Instruction,
    Later,
    Put,
    Synced,
)
from neap.common.runtime.plugins import load
from neap.common.units import DAY, GIB, HOUR
from neap.foresight.histogram import CPU as CPU_BUCKETS
from neap.foresight.histogram import MEMORY as MEMORY_BUCKETS
from neap.foresight.histogram import Histogram
from neap.foresight.rule import Rule
from neap.foresight.series import Series
from neap.foresight.sizing import Kill
from neap.planner.core.cluster import Cluster
from neap.planner.core.record import ContainerRecord, Used
from neap.planner.core.sizing.desk import SizingDesk
from neap.planner.core.sizing.settings import SizingSettings
from neap.planner.core.wishes import Wishes
from neap.planner.settings import Settings
from neap.planner.wiring import tunable
from tests.unit.policy_world import a_policy, an_edition
from tests.unit.scheduler_world import an_owner

START = 1_724_342_400.0  # a full hour
FEED = "shop/Deployment/feed"
RULES = load("neap.foresight.sizes", Rule)


class Kept:
    """A record that holds what it was given."""

    def __init__(self) -> None:
        self.parts: dict[str, ContainerRecord] = {}

    def use(
        self,
        key: str,
        *,
        cores: Sequence[float],
        gib: Sequence[float],
        last: float,
        ooms: Sequence[Kill] = (),
        startup: float = float("nan"),
    ) -> None:
        """By hour, up to `last`."""
        used = []
        for hours, buckets, peak in (
            (cores, CPU_BUCKETS, float("nan")),
            (np.array(gib) * GIB, MEMORY_BUCKETS, startup),
        ):
            series = Series(last - len(hours) * HOUR, HOUR, np.array(hours, dtype=float))
            histogram = Histogram(buckets)
            histogram.add_all(series.values, series.start + HOUR * np.arange(1, len(hours) + 1, dtype=np.float64))
            used.append(Used(histogram, series, series, peak))
        first = last - len(cores) * HOUR
        self.parts[key] = ContainerRecord("main", first, last, len(cores), used[0], used[1], ooms)

    def container(self, key: str, container: str) -> ContainerRecord | None:
        return self.parts.get(key) if container == "main" else None

    def nodes(self) -> Sequence[str]:
        return ()

    def containers(self, key: str) -> Sequence[str]:
        return ["main"] if key in self.parts else []

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
    """See module docstring. `told` is what the bus stores; `resizes` what was emitted, by dedupe id."""

    def __init__(self, told: Mapping[str, Recommendation] | None = None, **settings: Any) -> None:
        self.wishes = Wishes(tunable(), Settings(sizing=SizingSettings(**settings)))
        self.cluster, self.record = Cluster(), Kept()
        self.desk = SizingDesk(self.wishes, self.cluster, self.record, RULES)
        self.at, self.seq = START, 0
        self.told: dict[str, Recommendation] = dict(told or {})
        self.puts: list[Recommendation] = []
        self.resizes: dict[str, Resize] = {}
        self.trail: list[TrailEntry] = []
        self.counts: dict[str, float] = {}
        self.later = 0
        for one in self.told.values():
            self.hear(Arrived(self.at, one))
        self.hear(Synced(self.at, RECOMMENDATIONS))

    def hear(self, event: Event) -> None:
        self.wishes.hear(event)
        self.cluster.hear(event)
        self._do(self.desk.hear(event))
        self.desk.validate()

    def plan(self, *, after: float = 60.0) -> None:
        self.at += after
        self._do(self.desk.plan(self.at))
        self.desk.validate()

    def live(self, hours: float, step: float = 60.0) -> None:
        until = self.at + hours * HOUR
        while self.at < until:
            self.plan(after=step)

    def run(
        self, count: int = 2, *, owner: str = "Deployment/feed", cores: float = 8, gib: int = 8, **more: Any
    ) -> None:
        for index in range(count):
            workload = an_owner(f"{owner.split('/')[1]}-{index}", cores=cores, gib=gib, owner=owner, **more)
            placement = Placement(workload=workload, charged=workload.requests)
            self.hear(Arrived(self.at, Placed(at=self.at, source="t", node="n1", placement=placement, reason="")))

    def end(self, *uids: str) -> None:
        for uid in uids:
            self.hear(Arrived(self.at, Released(at=self.at, source="t", node="n1", uid=uid, reason="")))

    def weeks(self, cores: float = 2.0, gib: float = 2.0, key: str = FEED, hours: int = 14 * 24, **more: Any) -> None:
        self.record.use(key, cores=[cores] * hours, gib=[gib] * hours, last=self.at, **more)

    def report(
        self,
        count: int = 10,
        *,
        throttled: float = 0.0,
        stalled: float = 0.0,
        uids: Sequence[str] = ("feed-0", "feed-1"),
    ) -> None:
        containers = tuple(
            ContainerUsage(
                uid=uid, container=f"c-{uid}", cgroup=f"/{uid}", throttled=throttled, cpu_stall=Stall(some60=stalled)
            )
            for uid in uids
        )
        for _ in range(count):
            self.seq += 1
            self.hear(
                Arrived(
                    self.at,
                    NodeUsage(at=self.at, source="r", node="n1", seq=self.seq, period=1.0, containers=containers),
                )
            )

    def ask(self, key: str = FEED, **more: Any) -> ApplyAnswer:
        namespace, kind, name = key.split("/")
        request = ApplyRequest(namespace=namespace, kind=kind, name=name, **more)
        answer = self.desk.answer(request)
        if answer.accepted and not request.show:
            self.hear(Heard(self.at, request))
        return answer

    def outcome(
        self, outcome: str = "done", *, pod: str = "feed-0", key: str = FEED, version: str = "", detail: str = ""
    ) -> None:
        namespace, kind, name = key.split("/")
        said = version or list(self.resizes.values())[-1].version
        self.hear(Arrived(self.at, Resized(
            at=self.at, source="g", namespace=namespace, kind=kind, name=name, version=said, outcome=outcome, uid=pod,
            pod=pod, detail=detail,
        )))  # fmt: skip

    def policy(self, **patch: Any) -> None:
        document = a_policy("sizes", an_edition({"sizing": patch}, "service=" + FEED), room="planner")
        self.hear(Arrived(self.at, document))
        self.hear(Synced(self.at, POLICY))

    def target(self, key: str = FEED, resource: str = CPU) -> int:
        return next(
            each.target for size in self.told[key].containers for each in size.requests if each.resource == resource
        )

    def _do(self, instructions: Sequence[Instruction]) -> None:
        for each in instructions:
            match each:
                case Put(value=Recommendation() as told):
                    key = f"{told.namespace}/{told.kind}/{told.name}"
                    self.told[key] = told
                    self.puts.append(told)
                    self.hear(Arrived(self.at, told))
                case Delete(key=key):
                    namespace, kind, name = key.subject.split(".")
                    del self.told[f"{namespace}/{kind}/{name}"]
                case Emit(message=Resize() as resize, id=id):
                    assert id not in self.resizes, "emitted twice"
                    self.resizes[id] = resize
                case Decide(entry=entry):
                    self.trail.append(entry)
                case Count(metric=metric, by=by):
                    self.counts[metric] = self.counts.get(metric, 0) + by
                case Later():
                    self.later += 1


__all__ = ["CPU", "DAY", "FEED", "GIB", "HOUR", "MEMORY", "START", "World"]
