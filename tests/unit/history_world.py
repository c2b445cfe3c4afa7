"""A planner's history with a cluster to look at: pods, their reports, and the next life."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from neap.common.contract.catalogue import HISTORY, PLACEMENTS, WORKLOAD
from neap.common.model.lifecycle import Started
from neap.common.model.past import HistoryPage, PastUsage
from neap.common.model.placement import Placed, Placement, Released
from neap.common.model.qos import QosClass
from neap.common.model.usage import ContainerUsage, NodeUsage
from neap.common.model.workload import Container, Workload
from neap.common.runtime.machine import Arrived, Count, Event, Instruction, Put, Stopping, Synced, Tick
from neap.common.units import GIB, HOUR, MIB, Seconds
from neap.planner.core.cluster import Cluster
from neap.planner.core.history.desk import History
from neap.planner.core.history.settings import Settings

START: Final[Seconds] = 1_700_000_000.0 // HOUR * HOUR
SMALL: Final = Settings(most_containers=400, most_services=200, most_nodes=20, most_tracked=5, least=1)
CART: Final = "shop/Deployment/cart"

Use = tuple[float | None, int | None]  # cores, bytes


class HistoryWorld:
    """See module docstring."""

    def __init__(self, settings: Settings = SMALL, pages: Sequence[HistoryPage] = (), at: Seconds = START) -> None:
        self.cluster = Cluster()
        self.history = History(settings, self.cluster)
        self.said: list[Instruction] = []
        self.stored: dict[str, HistoryPage] = {}  # on the bus
        self._seq = 0
        for page in pages:
            self.hear(Arrived(at, page))
        for channel in (HISTORY, WORKLOAD, PLACEMENTS):
            self.hear(Synced(at, channel))

    def hear(self, event: Event) -> Sequence[Instruction]:
        """Tell it something."""
        self.cluster.hear(event)
        found = self.history.plan(event.at) if isinstance(event, Tick) else self.history.hear(event)
        self.said += found
        self.stored |= {item.value.page: item.value for item in found if isinstance(item, Put)}
        self.history.validate()
        return found

    def place(
        self, uid: str, node: str = "n1", owner: str = "Deployment/cart", *, at: Seconds = START, **more: Any
    ) -> Workload:
        """A pod with the containers `containers`, or with the one called main."""
        names = more.pop("containers", ("main",))
        limits = {"memory": more.pop("limit", 0)}
        workload = Workload(
            uid=uid, namespace="shop", name=uid, owner=owner, qos=more.pop("qos", QosClass.SHARED),
            containers=tuple(Container(name=name, requests={"cpu": 1000, "memory": GIB}, limits=limits) for name in names),
        )  # fmt: skip
        placement = Placement(workload=workload, charged=workload.requests)
        self.hear(Arrived(at, Placed(at=at, source="scheduler", node=node, placement=placement, reason="")))
        started = more.pop("started", None)
        if started is not None:
            ids = {name: f"{uid}-{name}" for name in names}
            event = Started(at=started, source="reporter", uid=uid, node=node, attempt=1, containers=ids)
            self.hear(Arrived(started, event))
        return workload

    def release(self, uid: str, node: str, at: Seconds) -> None:
        """A pod left."""
        self.hear(Arrived(at, Released(at=at, source="scheduler", node=node, uid=uid, attempt=1, reason="")))

    def report(
        self, at: Seconds, used: Mapping[str, Use], node: str = "n1", *, now: Seconds | None = None, **more: Any
    ) -> None:
        """A node's report; keys are uids, or uid/container."""
        listed = []
        for name, (cpu, memory) in used.items():
            uid, _, container = name.partition("/")
            kills = more.get("kills", {}).get(name)
            listed.append(
                ContainerUsage(
                    uid=uid, container=f"{uid}-{container or 'main'}", cgroup=name, cpu=cpu, working_set=memory, oom_kills=kills
                )
            )  # fmt: skip
        self._seq += 1
        usage = NodeUsage(
            at=at, source="reporter", node=node, seq=self._seq, period=more.get("period", 1.0), containers=tuple(listed),
            since=more.get("since", 0),
        )  # fmt: skip
        self.hear(Arrived(at if now is None else now, usage))

    def live(self, start: Seconds, minutes: int, used: Mapping[str, Use], node: str = "n1") -> Seconds:
        """A report a minute, and the desk's tick; when it is over."""
        for minute in range(minutes):
            at = start + 60.0 * minute + 1.0
            self.report(at, used, node)
            self.hear(Tick(at, "history"))
        return start + 60.0 * minutes

    def tell(
        self, at: Seconds, values: Sequence[float | None], *, start: Seconds, step: Seconds = 60.0, **more: Any
    ) -> Sequence[Instruction]:
        """A line of somebody's record."""
        told = PastUsage(
            at=at, source="console", namespace=more.pop("namespace", "shop"), kind=more.pop("kind", "Deployment"),
            name=more.pop("name", "cart"), resource=more.pop("resource", "cpu"), start=start, step=step,
            values=tuple(values), **more,
        )  # fmt: skip
        return self.hear(Arrived(at, told))

    def pages(self, at: Seconds) -> list[HistoryPage]:
        """All of it, as it stops."""
        self.hear(Stopping(at))
        return list(self.stored.values())

    def counted(self, metric: str, **labels: str) -> float:
        """What was counted so far."""
        return sum(
            item.by for item in self.said if isinstance(item, Count) and item.metric == metric and item.labels == labels
        )

    def skipped(self, why: str) -> float:
        """How much was left out for a reason."""
        return self.counted("neap_planner_history_skipped_total", why=why)


__all__ = ["CART", "GIB", "HOUR", "MIB", "SMALL", "START", "HistoryWorld", "Use"]
