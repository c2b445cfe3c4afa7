"""Who runs where, as the planner knows it: what is over is forgotten, in bounds."""

from __future__ import annotations

from neap.common.contract.catalogue import TOPOLOGY
from neap.common.model.lifecycle import Started
from neap.common.model.placement import Placed, Placement, Released
from neap.common.model.qos import QosClass
from neap.common.model.resource import CPU
from neap.common.model.workload import Container, Workload
from neap.common.runtime.machine import Arrived, Gone
from neap.planner.core.cluster import MOST_IDLE, Cluster
from tests.unit.scheduler_world import a_node


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


def test_a_node_is_known_as_long_as_anything_is_known_of_it() -> None:
    cluster = Cluster()
    cluster.hear(Arrived(0.0, a_node("n1")))
    run_of(cluster, "Deployment/cart", over=False)
    cluster.hear(Gone(1.0, TOPOLOGY, TOPOLOGY.at(node="n1").subject))
    assert list(cluster.nodes) == ["n1"], "a pod is still there"
    cluster.hear(Arrived(2.0, Released(at=2.0, source="s", node="n1", uid="Deployment/cart", reason="done")))
    assert not cluster.nodes
    cluster.validate()


def test_an_owner_that_is_not_written_as_kind_and_name_makes_a_pod_by_itself() -> None:
    cluster = Cluster()
    run_of(cluster, "nonsense", over=False)
    assert list(cluster.services) == ["shop/Pod/pod-nonsense"]


def test_a_service_that_comes_back_is_idle_no_more() -> None:
    cluster = Cluster()
    run_of(cluster, "Deployment/cart")
    run_of(cluster, "Deployment/cart", over=False)
    for number in range(MOST_IDLE + 5):
        run_of(cluster, f"Job/run-{number}")
    cluster.validate()
    assert "shop/Deployment/cart" in cluster.services


def test_a_pod_that_is_resized_in_place_goes_on_with_its_new_size_and_started_when_it_did() -> None:
    cluster = Cluster()
    small, large = (
        Workload(
            uid="u1", namespace="shop", name="cart-1", qos=QosClass.SHARED, owner="Deployment/cart",
            containers=(Container(name="main", requests={CPU: cpu}),),
        )
        for cpu in (1000, 2000)
    )  # fmt: skip
    for at, workload in ((1.0, small), (60.0, large)):
        cluster.hear(
            Arrived(at, Started(at=at + 1, source="g", uid="u1", node="n1", attempt=1, containers={"main": "c1"}))
        )
        placement = Placement(workload=workload, charged=workload.requests)
        cluster.hear(Arrived(at, Placed(at=at, source="s", node="n1", placement=placement, reason="")))
    pod, service = cluster.pods["u1"], cluster.services["shop/Deployment/cart"]
    assert pod.workload.requests == service.workload.requests == {CPU: 2000}
    assert (pod.placed_at, pod.started_at, pod.containers) == (1.0, 2.0, {"c1": "main"})
    assert service.starts == (1.0,)
    cluster.validate()
