"""Who follows a node's ledger takes a second Placed of the same run for what it is: the same pod with another size."""

from __future__ import annotations

from typing import Any

import msgspec

from neap.common.cpuset import parse_cpuset
from neap.common.model.placement import Placed, Placement
from neap.common.model.qos import QosClass
from neap.common.model.resource import CPU
from neap.common.runtime.machine import Put
from neap.evictor.core.residents import Residents
from tests.unit.scheduler_world import a_guest, an_owner
from tests.unit.test_advisor_node import Node as Advisor
from tests.unit.test_advisor_node import a_pod
from tests.unit.test_gpushare_machine import Node as Gpushare
from tests.unit.test_gpushare_machine import a_slice


def again(placement: Placement, at: float, node: str = "n1") -> Placed:
    return Placed(at=at, source="scheduler", node=node, placement=placement, reason="resized in place: cpu 4 -> 8")


def test_the_advisor_gives_a_pod_the_knobs_of_its_new_size_and_forgets_nothing_of_its_use() -> None:
    node = Advisor(a_pod("w", cores=4), a_pod("b", cores=4), a_pod("d", QosClass.DEDICATED, cores=4))
    node.report(8, w=3.0, b=1.0, d=2.0)
    before = {name: node.knobs(f"pod/{name}") for name in "wbd"}
    tracked, use = node.machine._mind.tracks["w"], node.machine._mind.tracks["w"].reports
    for placement in (a_pod("w", cores=8), a_pod("d", QosClass.DEDICATED, cores=8)):
        node.hear(again(placement, node.at, "n"))
    after = {name: node.knobs(f"pod/{name}") for name in "wbd"}
    assert weight(after["w"]) >= 1.9 * weight(before["w"])
    assert weight(after["b"]) == weight(before["b"])
    assert [len(parse_cpuset(one["d"].knobs.cpus or "")) for one in (before, after)] == [4, 8]
    assert (node.machine._mind.tracks["w"] is tracked, tracked.reports) == (True, use)


def weight(advised: Any) -> int:
    return int(advised.knobs.cpu_weight or 0)


def test_gpushare_gives_the_same_slice_and_says_nothing_again() -> None:
    node, slice_ = Gpushare(), a_slice("u", 50, 4000)
    node.place(slice_)
    [main] = slice_.workload.containers
    more = msgspec.structs.replace(main, requests=main.requests | {CPU: 8000})
    workload = msgspec.structs.replace(slice_.workload, containers=(more,))
    said = node.entry(again(msgspec.structs.replace(slice_, workload=workload, charged=workload.requests), 2.0))
    assert not said, "nothing changed about its card"
    assert not [one for one in node.place(a_slice("v", 50, 4000)) if isinstance(one, Put) and one.value.refused]


def test_the_evictor_makes_no_guest_of_a_resized_owner_and_nobody_younger() -> None:
    guest, owner = a_guest("g", cores=1), an_owner("o", cores=4)
    residents = Residents("n1")
    begun = [
        residents.hear(again(Placement(workload=workload, charged=workload.requests), float(number), "n1"), number + 1)
        for number, workload in enumerate((guest, owner, guest, owner))
    ]
    assert begun == ["g", "", "", ""], "a run begins once"
    assert {uid: resident.started for uid, resident in residents.here.items()} == {"g": 0.0}
