"""Who runs where, as the planner knows it: what is over is forgotten, in bounds."""

from __future__ import annotations

from neap.common.model.placement import Placed, Placement, Released
from neap.common.model.qos import QosClass
from neap.common.model.workload import Workload
from neap.common.runtime.machine import Arrived
from neap.planner.core.cluster import MOST_IDLE, Cluster


def run_of(cluster: Cluster, owner: str, *, over: bool = True) -> None:
    """A pod comes, and goes unless it stays."""
    workload = Workload(
        uid=owner, namespace="shop", name=f"pod-{owner}", qos=QosClass.SHARED, owner=owner, containers=()
    )  # fmt: skip
    placement = Placement(workload=workload, charged={})
    cluster.hear(Arrived(0.0, Placed(at=0.0, source="s", node="n1", placement=placement, reason="")))
    if over:
        cluster.hear(Arrived(1.0, Released(at=1.0, source="s", node="n1", uid=owner, reason="done")))


def test_of_services_without_a_pod_only_so_many_are_known_and_those_that_run_always() -> None:
    cluster = Cluster()
    run_of(cluster, "Deployment/cart", over=False)
    run_of(cluster, "Deployment/idle")
    for number in range(MOST_IDLE):
        run_of(cluster, f"Job/run-{number}")
    run_of(cluster, "Job/run-0")
    cluster.validate()
    assert len(cluster.services) == MOST_IDLE + 1
    assert "shop/Deployment/cart" in cluster.services
    assert "shop/Deployment/idle" not in cluster.services, "it has been idle the longest"
    assert "shop/Job/run-0" in cluster.services


def test_a_service_that_comes_back_is_idle_no_more() -> None:
    cluster = Cluster()
    run_of(cluster, "Deployment/cart")
    run_of(cluster, "Deployment/cart", over=False)
    for number in range(MOST_IDLE + 5):
        run_of(cluster, f"Job/run-{number}")
    cluster.validate()
    assert "shop/Deployment/cart" in cluster.services
