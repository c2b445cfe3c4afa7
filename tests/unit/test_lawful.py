"""What the wire lets through: entries a ledger can have, reasons short enough to read, and no word about others."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from neap.common.contract.catalogue import NODE_USAGE, PLACEMENTS, POLICY, WORKLOAD
from neap.common.contract.channel import REASON, shortened
from neap.common.contract.lawful import common_flaw, entry_flaw, name_flaw
from neap.common.errors import WireError
from neap.common.model.placement import Checkpoint, GpuShare, LedgerEntry, Placed, Placement, Released
from neap.common.model.qos import QosClass
from neap.common.model.resource import CPU, LARGEST
from neap.common.model.workload import Container, Workload
from neap.scheduler.core.pods.admission import refusal


def pod(**changes: Any) -> Workload:
    container = Container(name="main", requests={CPU: 100})
    plain = Workload(uid="u-1.a_b", namespace="shop", name="cart-1", qos=QosClass.SHARED, containers=(container,))
    return msgspec.structs.replace(plain, **changes)


def holds(amount: int) -> tuple[Container, ...]:
    return (Container(name="main", requests={CPU: 100}, limits={CPU: amount}),)


BROKEN = [
    ({"namespace": "No Such"}, "namespace not usable in a subject: 'No Such'"),
    ({"name": "a_b"}, "name not usable"),
    ({"uid": "../x"}, "uid '../x' must be"),
    ({"uid": ""}, "uid '' must be"),
    ({"uid": "x" * 129}, "uid"),
    ({"attempt": 0}, "attempt 0 is out of bounds"),
    ({"attempt": 1 << 31}, "out of bounds"),
    ({"containers": ()}, "0 containers"),
    ({"containers": tuple(Container(name=str(n), requests={}) for n in range(65))}, "65 containers"),
    ({"containers": holds(-1)}, "container 'main' limits: cpu -1 is negative"),
    ({"containers": holds(LARGEST + 1)}, "limits: cpu is beyond"),
    ({"init_requests": {CPU: -1}}, "init containers: cpu -1 is negative"),
]


@pytest.mark.parametrize(("changes", "why"), BROKEN)
def test_a_workload_no_ledger_takes_is_refused_by_the_scheduler_and_by_every_reader(
    changes: dict[str, Any], why: str
) -> None:
    wrong = pod(**changes)
    assert why in (name_flaw(wrong) or common_flaw(wrong))
    assert refusal(wrong)
    placed = Placed(at=0.0, source="s", node="n1", placement=Placement(workload=wrong, charged={}), reason="")
    kept = Checkpoint(
        at=0.0, source="s", node="n1", placements=(Placement(workload=pod(), charged={}), placed.placement)
    )
    for entry in (placed, kept):
        with pytest.raises(WireError, match=r"^neap\.v1\.ledger\.n1: "):
            PLACEMENTS.decode(PLACEMENTS.encode(entry), "neap.v1.ledger.n1")


def test_what_the_scheduler_admits_a_ledger_takes() -> None:
    assert refusal(pod()) == ""
    placement = Placement(workload=pod(), charged={CPU: 0, "x": LARGEST})
    entries: tuple[LedgerEntry, ...] = (
        Placed(at=0.0, source="s", node="n1", placement=placement, reason=""),
        Released(at=0.0, source="s", node="n1", uid="../x", reason=""),
        Checkpoint(at=0.0, source="s", node="n1", placements=()),
    )
    for entry in entries:
        assert entry_flaw(entry) == ""
        assert PLACEMENTS.decode(PLACEMENTS.encode(entry), "neap.v1.ledger.n1") == entry


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ({"charged": {CPU: -5}}, "charged: cpu -5 is negative"),
        ({"charged": {CPU: 1 << 60}}, "charged: cpu is beyond"),
        ({"gpus": (GpuShare(container="m", card=3, core=-1, memory_mib=0),)}, "share of card 3: core -1 is negative"),
        ({"gpus": (GpuShare(container="m", card=3, core=1, memory_mib=1 << 60),)}, "card 3: memory_mib is beyond"),
    ],
)
def test_amounts_no_scheduler_charges_are_flaws(parts: dict[str, Any], why: str) -> None:
    given: dict[str, Any] = {"workload": pod(), "charged": {}} | parts
    placement = Placement(**given)
    assert why in entry_flaw(Placed(at=0.0, source="s", node="n1", placement=placement, reason=""))


def test_a_reason_keeps_what_is_wrong_and_where_and_loses_what_it_quotes() -> None:
    message = b'{"type": "' + b"x" * 100_000 + b'"}'
    with pytest.raises(WireError) as told:
        WORKLOAD.decode(message, "neap.v1.workload.shop.cart-1")
    assert str(told.value).startswith("neap.v1.workload.shop.cart-1: Invalid value 'xxx")
    assert str(told.value).endswith("- at `$.type`")
    assert len(str(told.value)) <= REASON + 40
    assert shortened("a" * REASON) == "a" * REASON
    assert len(shortened("a" * (REASON + 1))) <= REASON


def test_names_with_dots_are_the_same_node_in_subject_and_message() -> None:
    message = b'{"at": 1, "source": "s", "node": "a.b.c", "seq": 1, "period": 1}'
    assert NODE_USAGE.decode(message, "neap.v1.node.a_b_c.usage").node == "a.b.c"
    with pytest.raises(WireError, match=r"speaks of node 'a\.b\.c'"):
        NODE_USAGE.decode(message, "neap.v1.node.a_b.usage")


def test_a_policy_speaks_of_the_room_and_the_name_it_is_stored_under() -> None:
    message = b'{"at": 1, "source": "s", "room": "advisor", "name": "night", "editions": [{"version": 1, "at": 1}]}'
    assert POLICY.decode(message, "advisor.night").now.version == 1
    for key in ("evictor.night", "advisor.day"):
        with pytest.raises(WireError, match="speaks of"):
            POLICY.decode(message, key)
