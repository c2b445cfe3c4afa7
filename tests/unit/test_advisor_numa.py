"""NUMA binding and exclusive nodes, and what a small machine comes to: 8 CPUs, 4 NUMA nodes, 2 sockets."""

from __future__ import annotations

from typing import Any

import pytest

from neap.common.cpuset import format_cpuset, parse_cpuset
from neap.common.errors import InputError
from neap.common.model.enhancement import Enhancement, enhancement
from neap.common.model.placement import Placed, Placement, Released
from neap.common.model.qos import QosClass
from neap.common.model.resource import CPU, MEMORY, RECLAIMED_CPU, RECLAIMED_MEMORY
from neap.common.model.topology import NodeTopology, NumaNode, Zone, ZoneKind
from neap.common.model.workload import Container, Workload
from neap.common.units import GIB
from tests.unit.test_advisor_node import Node

DEDICATED, SHARED, RECLAIMED, SYSTEM = QosClass.DEDICATED, QosClass.SHARED, QosClass.RECLAIMED, QosClass.SYSTEM
BOUND = {"katalyst.kubewharf.io/memory_enhancement": '{"numa_binding": "true"}'}
ALONE = {"katalyst.kubewharf.io/memory_enhancement": '{"numa_binding": "true", "numa_exclusive": "true"}'}


def a_small_machine(*, threads: int = 1, system: str = "0", bare: int = 0, cpus: int = 8) -> NodeTopology:
    """2 sockets of 2 NUMA nodes of 2 CPUs, 1 GiB each; `bare` memory nodes without CPUs come after them."""
    nodes = [NumaNode(index=i, cpus=format_cpuset({2 * i, 2 * i + 1} & set(range(cpus))), memory=GIB) for i in range(4)]
    nodes += [NumaNode(index=4 + i, cpus="", memory=8 * GIB) for i in range(bare)]
    return NodeTopology(
        at=0,
        source="reporter",
        node="n",
        machine=Zone(kind=ZoneKind.MACHINE, index=0, cpus=f"0-{cpus - 1}"),
        numa=tuple(nodes),
        capacity={MEMORY: (4 + 8 * bare) * GIB},
        allocatable={MEMORY: (3 + 8 * bare) * GIB},
        system_cpus=system,
        siblings={cpu: f"{cpu & ~1}-{cpu | 1}" for cpu in range(8)} if threads == 2 else {},
    )


def a_pod(
    uid: str,
    qos: QosClass = SHARED,
    cores: float = 1,
    numa: tuple[int, ...] = (),
    asks: dict[str, str] | None = None,
    pool: str = "",
) -> Placement:
    guest = qos is RECLAIMED
    size = {RECLAIMED_CPU if guest else CPU: int(cores * 1000), RECLAIMED_MEMORY if guest else MEMORY: GIB // 4}
    containers = (Container(name="main", requests=size),)
    workload = Workload(
        uid=uid, namespace="shop", name=uid, qos=qos, pool=pool, containers=containers, annotations=asks or {}
    )
    return Placement(workload=workload, charged=size, numa=numa)


def a_node(*pods: Placement, topology: NodeTopology | None = None, **tuning: Any) -> Node:
    return Node(*pods, topology=topology or a_small_machine(), **tuning)


def cpus(node: Node, uid: str) -> frozenset[int]:
    return parse_cpuset(node.knobs(f"pod/{uid}").knobs.cpus or "")


def mems(node: Node, target: str) -> str | None:
    return node.knobs(target).knobs.mems


def told(node: Node, uid: str) -> str:
    return next(line.why for line in node.lines if line.id == f"{uid}.1.advised")


# -- small machines --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("threads", "use", "owners", "guests"),
    [
        (1, 0.2, 1, 6),  # 0.2 x 1.69 + 0.5 reserve
        (1, 1.0, 3, 4),
        (1, 2.0, 4, 3),  # a quarter of the machine in use: three eighths lent
        (1, 3.0, 6, 1),
        (2, 1.0, 4, 3),  # whole cores: four CPUs for 2.2
        (2, 2.0, 4, 3),
    ],
)
def test_what_eight_cpus_lend(threads: int, use: float, owners: int, guests: int) -> None:
    node = a_node(a_pod("s", cores=4), a_pod("g", RECLAIMED), topology=a_small_machine(threads=threads))
    node.report(20, s=use, g=1.0, memory=0.1)
    assert len(node.cpus("share")) == owners
    assert len(node.cpus("reclaimed") - node.cpus("share")) == guests
    assert node.cpus("system") == {0}


def test_owners_of_a_small_machine_are_spread_over_its_nodes_and_leave_guests_whole_ones() -> None:
    node = a_node(a_pod("s", cores=4), topology=a_small_machine(threads=2))
    node.report(20, s=2.0, memory=0.1)
    assert node.cpus("share") == {2, 3, 4, 5}
    assert node.cpus("reclaimed") == {1, 6, 7}


# -- binding ---------------------------------------------------------------------------------------------------------


def test_without_anybody_bound_memory_nodes_are_left_alone() -> None:
    node = a_node(a_pod("s"), a_pod("g", RECLAIMED), a_pod("d", DEDICATED, 2))
    node.report(3, s=0.5, g=0.5, d=1.0, memory=0.1)
    assert {cgroup.knobs.mems for cgroup in node.advice.cgroups} == {None}


def test_a_dedicated_pod_has_cores_and_pages_on_its_node() -> None:
    node = a_node(a_pod("d", DEDICATED, 1, (2,), BOUND), a_pod("e", DEDICATED, 2, (1, 3), BOUND), a_pod("s"))
    node.report(3, d=0.5, e=1.0, s=0.5, memory=0.1)
    assert cpus(node, "d") <= {4, 5}
    assert mems(node, "pod/d") == "2"
    assert cpus(node, "e") <= {2, 3, 6, 7}
    assert mems(node, "pod/e") == "1,3"
    assert mems(node, "pod/s") is None
    assert "bound" not in told(node, "d")


def test_a_bound_pod_moves_one_that_is_not_bound_if_there_is_no_other_way() -> None:
    node = a_node(a_pod("free", DEDICATED, 2), a_pod("s"))
    node.report(3, free=1.0, s=0.2, memory=0.1)
    its = cpus(node, "free")
    (home,) = {cpu // 2 for cpu in its}
    node.hear(Placed(at=node.at, source="s", node="n", placement=a_pod("b", DEDICATED, 2, (home,), BOUND), reason=""))
    assert cpus(node, "b") == its
    assert len(cpus(node, "free") - its) == 2


def test_a_shared_pod_bound_to_a_node_has_a_pool_there_sized_by_its_own_use() -> None:
    node = a_node(a_pod("b", cores=1, numa=(3,), asks=BOUND), a_pod("s", cores=2), a_pod("g", RECLAIMED))
    for use in (0.2, 0.9, 0.3):
        node.report(12, b=use, s=1.0, g=1.0, memory=0.1)
        assert node.knobs("pod/b").pool == "share@numa3"
        assert 0 < len(cpus(node, "b")) <= 2
        assert cpus(node, "b") == node.cpus("share@numa3") <= {6, 7}
        assert not cpus(node, "b") & cpus(node, "s")
        assert mems(node, "pod/b") == "3"


def test_a_bound_pool_that_needs_more_than_its_node_has_gets_the_node_and_it_is_said() -> None:
    node = a_node(a_pod("b", cores=2, numa=(3,), asks=BOUND), a_pod("s", cores=2))
    node.report(5, b=2.0, s=1.0, memory=0.1)
    assert cpus(node, "b") == {6, 7}
    assert "its NUMA node has no more" in node.why("share@numa3")


def test_more_bound_pools_than_cpus_on_a_node_are_not_bound_and_their_pods_are_told() -> None:
    pods = [a_pod(uid, numa=(3,), asks=BOUND, pool=uid) for uid in "abc"]
    node = a_node(*pods)
    node.report(3, a=0.3, b=0.3, c=0.3, memory=0.1)
    assert all(cpus(node, uid) for uid in "abc")
    assert "its NUMA node has 2 CPUs left for 3 pools" in told(node, "a")


def test_a_bound_guest_runs_on_what_is_lent_of_its_node_or_is_held_still() -> None:
    node = a_node(a_pod("g", RECLAIMED, 1, (3,), BOUND), a_pod("s", cores=2))
    node.report(12, g=0.5, s=0.5, memory=0.1)
    assert set() < cpus(node, "g") <= {6, 7}
    assert mems(node, "pod/g") == "3"
    node.hear(Placed(at=node.at, source="s", node="n", placement=a_pod("d", DEDICATED, 2, (3,), BOUND), reason=""))
    assert not cpus(node, "g")
    assert node.knobs("pod/g").knobs.cpu_max == 0.05
    assert node.cpus("reclaimed")


# -- alone on a node -------------------------------------------------------------------------------------------------


def test_who_has_a_node_alone_has_all_of_it_and_nobody_else_any() -> None:
    pods = a_pod("x", DEDICATED, 1, (1,), ALONE), a_pod("s"), a_pod("g", RECLAIMED), a_pod("y", SYSTEM, 0.1)
    node = a_node(*pods)
    node.report(9, x=0.5, s=0.5, g=1.0, y=0.1, memory=0.1)
    assert cpus(node, "x") == {2, 3}
    assert mems(node, "pod/x") == "1"
    for target in ("class/besteffort", "pod/s", "pod/g", "pod/y"):
        assert mems(node, target) == "0,2-3"
        assert not parse_cpuset(node.knobs(target).knobs.cpus or "") & {2, 3}
    assert "alone on NUMA node 1" in node.why("dedicated")
    assert "1.0Gi exclusive" in node.headroom.arithmetic[RECLAIMED_MEMORY]


def test_when_the_node_is_free_again_everybody_is_told_so_also_after_a_restart() -> None:
    pods = a_pod("x", DEDICATED, 1, (1,), ALONE), a_pod("s"), a_pod("g", RECLAIMED)
    node = a_node(*pods, topology=a_small_machine(bare=1))
    node.report(9, x=0.5, s=0.5, g=1.0, memory=0.1)
    assert mems(node, "pod/s") == "0,2-3", "memory without CPUs is not given silently"
    again = a_node(*pods[1:], topology=a_small_machine(bare=1), last=node.advice, at=node.at)
    node.hear(Released(at=node.at, source="s", node="n", uid="x", reason=""))
    again.report(s=0.5, g=1.0, memory=0.1)
    for life in (node, again):
        assert {mems(life, target) for target in ("class/besteffort", "pod/s", "pod/g")} == {"0-4"}


def test_memory_without_cpus_is_for_who_is_placed_there() -> None:
    node = a_node(a_pod("d", DEDICATED, 1, (2, 4), BOUND), topology=a_small_machine(bare=1))
    node.report(2, d=0.5, memory=0.1)
    assert mems(node, "pod/d") == "2,4"
    assert cpus(node, "d") <= {4, 5}


def test_a_guest_does_not_keep_an_owner_from_being_alone() -> None:
    node = a_node(a_pod("x", DEDICATED, 1, (1,), ALONE), a_pod("g", RECLAIMED, 1, (1,), BOUND))
    node.report(2, x=0.5, g=0.5, memory=0.1)
    assert cpus(node, "x") == {2, 3}
    assert "an owner has it alone" in told(node, "g")
    assert not cpus(node, "g") & {2, 3}


@pytest.mark.parametrize(
    ("pods", "uid", "says"),
    [
        ([a_pod("x", DEDICATED, 1, (), BOUND)], "x", "its placement names no NUMA node"),
        ([a_pod("x", DEDICATED, 1, (9,), BOUND)], "x", "not bound to NUMA node 9: no CPU there to give"),
        ([a_pod("x", SHARED, 1, (1, 2), BOUND)], "x", "is bound to exactly one"),
        ([a_pod("x", SHARED, 1, (1,), ALONE)], "x", "numa_exclusive needs dedicated_cores"),
        ([a_pod("x", SYSTEM, 1, (1,), BOUND)], "x", "numa_binding is not for system_cores"),
        (
            [a_pod("x", DEDICATED, 1, (1,), ALONE), a_pod("s", SHARED, 1, (1,), BOUND)],
            "x",
            "not alone on NUMA node 1: s is bound there as well",
        ),
        (
            [a_pod("x", DEDICATED, 1, (1,), ALONE), a_pod("s", SHARED, 6)],
            "x",
            "not alone on NUMA node 1: other owners ask for 6 CPUs, 5 are left",
        ),
        ([a_pod("x", DEDICATED, 1, (0, 1, 2, 3), ALONE)], "x", "other owners ask for 0 CPUs, 0 are left"),
    ],
)
def test_what_cannot_be_kept_is_told_to_the_pod_and_nobody_else_pays(
    pods: list[Placement], uid: str, says: str
) -> None:
    node = a_node(*pods)
    node.report(2, **{pod.workload.uid: 0.5 for pod in pods}, memory=0.1)
    assert says in told(node, uid)
    assert all(cpus(node, pod.workload.uid) for pod in pods)


# -- what annotations may say ----------------------------------------------------------------------------------------


def test_both_spellings_are_read_and_what_others_say_is_theirs() -> None:
    wish = Enhancement(numa_binding=True, numa_exclusive=True)
    assert enhancement({**ALONE, "other": "x"}, DEDICATED) == wish
    assert enhancement({"neap.io/numa-binding": "true", "neap.io/numa-exclusive": "true"}, DEDICATED) == wish
    katalyst = {"katalyst.kubewharf.io/memory_enhancement": '{"rss_overuse_threshold": "1.2", "numa_binding": "false"}'}
    assert enhancement(katalyst, SHARED) == Enhancement()


@pytest.mark.parametrize(
    ("annotations", "qos", "says"),
    [
        ({"katalyst.kubewharf.io/memory_enhancement": "numa_binding"}, DEDICATED, "is no JSON object"),
        ({"katalyst.kubewharf.io/memory_enhancement": "[1]"}, DEDICATED, "is no JSON object"),
        ({"katalyst.kubewharf.io/memory_enhancement": '{"numa_binding": true}'}, DEDICATED, "neither 'true' nor"),
        ({"neap.io/numa-binding": "yes"}, DEDICATED, "'yes', neither 'true' nor 'false'"),
        ({**BOUND, "neap.io/numa-binding": "false"}, DEDICATED, "asked twice and differently"),
        ({"neap.io/numa-exclusive": "true"}, DEDICATED, "numa_exclusive without numa_binding"),
        (ALONE, SHARED, "numa_exclusive needs dedicated_cores, the pod is shared_cores"),
        (ALONE, RECLAIMED, "the pod is reclaimed_cores"),
        (BOUND, SYSTEM, "numa_binding is not for system_cores"),
    ],
)
def test_illegal_pairs_and_unknown_words_are_refused_by_name(
    annotations: dict[str, str], qos: QosClass, says: str
) -> None:
    with pytest.raises(InputError, match=says.replace("(", r"\(")):
        enhancement(annotations, qos)
