"""Appends whose outcome is in doubt: decided by what the ledger holds, never by a guess."""

from __future__ import annotations

import pytest

from neap.common.bus.port import LostRace, Stored
from neap.common.contract.catalogue import PLACEMENTS, WORKLOAD
from neap.common.model.lifecycle import Submitted
from neap.common.model.placement import Placed, Released
from neap.common.runtime.machine import Append, Arrived, Decide, Done, Event, Failed, Instruction, Synced, Tick
from neap.scheduler.core.flow.machine import SchedulerMachine
from neap.scheduler.settings import Settings
from tests.unit.scheduler_world import a_node, an_owner, known, policies


class Race:
    """One machine with two nodes and one workload whose append is under way."""

    def __init__(self) -> None:
        self.machine = SchedulerMachine(Settings(), policies())
        begin: list[Event] = [Arrived(0.0, a_node("n1")), Arrived(0.0, a_node("n2"))]
        for event in (*begin, *known(), Synced(0.0, PLACEMENTS), Synced(0.0, WORKLOAD)):
            self.tell(event)
        (self.append,) = self.appends(
            Arrived(0.0, Submitted(at=0.0, source="t", workload=an_owner()), "neap.v1.workload.shop.u1", 1)
        )
        self.node = self.append.entry.node
        self.other = {"n1": "n2", "n2": "n1"}[self.node]

    def tell(self, event: Event) -> list[Instruction]:
        out = list(self.machine.handle(event))
        self.machine.validate()
        return out

    def appends(self, *events: Event) -> list[Append]:
        return [item for event in events for item in self.tell(event) if isinstance(item, Append)]

    def retried(self) -> None:
        """The first try timed out, the second is under way."""
        assert self.appends(Failed(0.1, self.append, "no answer", may_retry=True), Tick(0.4, "cycle")) == [self.append]

    def heard(self, entry: object, seq: int) -> Event:
        return Arrived(1.0, entry, "", seq)

    def foreign(self, node: str, seq: int) -> Event:
        return self.heard(Released(at=0.5, source="other", node=node, uid="x", reason=""), seq)


@pytest.fixture
def race() -> Race:
    return Race()


def test_a_race_lost_at_once_is_tried_again_at_once_and_elsewhere_while_the_node_rests(race: Race) -> None:
    (again,) = race.appends(Done(0.1, race.append, LostRace(0)))
    assert again.entry.node == race.other
    assert again.id == race.append.id


def test_a_node_whose_race_was_lost_is_used_again_once_its_ledger_was_heard(race: Race) -> None:
    race.tell(Done(0.1, race.append, LostRace(0)))
    race.tell(race.foreign(race.node, 1))
    wide = an_owner("wide", cores=8)
    (append,) = race.appends(
        Arrived(1.0, Submitted(at=1.0, source="t", workload=wide), "neap.v1.workload.shop.wide", 2)
    )
    assert (append.entry.node, append.seen) == (race.node, 1)


def test_a_race_lost_after_a_retry_may_have_been_won_by_the_first_try(race: Race) -> None:
    race.retried()
    assert race.appends(Done(0.5, race.append, LostRace(0))) == []
    told = race.tell(race.heard(race.append.entry, 1))
    assert [item.entry.what for item in told if isinstance(item, Decide)] == ["placed"]


def test_a_race_lost_after_a_retry_to_somebody_else_is_tried_again(race: Race) -> None:
    race.retried()
    assert race.appends(Done(0.5, race.append, LostRace(0))) == []
    assert len(race.appends(race.foreign(race.node, 1))) == 1


def test_a_duplicate_is_decided_only_when_the_ledger_was_heard_that_far(race: Race) -> None:
    elsewhere = Placed(
        at=0.0, source="scheduler", node=race.other, placement=race.append.entry.placement, reason="an earlier life"
    )
    assert race.appends(Done(0.1, race.append, Stored(7, duplicate=True))) == []
    assert race.appends(race.foreign(race.node, 5)) == []
    assert race.appends(race.heard(elsewhere, 7), Tick(5.0, "cycle")) == []
    wide = an_owner("wide", cores=8)
    (append,) = race.appends(
        Arrived(9.0, Submitted(at=9.0, source="t", workload=wide), "neap.v1.workload.shop.wide", 2)
    )
    assert append.entry.node == race.node, "what the duplicate had reserved is free again"


def test_a_denial_after_a_retry_proves_nothing_and_is_tried_on(race: Race) -> None:
    race.retried()
    assert race.appends(Failed(0.5, race.append, "denied", may_retry=False)) == []
    assert race.appends(Tick(6.0, "cycle")) == [race.append]


def test_placements_chosen_for_a_node_that_somebody_else_changed_are_chosen_again(race: Race) -> None:
    busy = [an_owner(f"b{i}", cores=3) for i in range(4)]
    sent = race.appends(
        *(Arrived(0.1, Submitted(at=0.1, source="t", workload=w), f"neap.v1.workload.shop.{w.uid}", 2) for w in busy)
    )
    assert {append.entry.node for append in sent} == {race.other}, "the others wait behind the one in flight"
    race.tell(Done(0.2, race.append, LostRace(0)))
    on_node = [op.uid for op in race.machine._appends._ops.values() if op.node == race.node]
    assert on_node == []


def test_placements_that_wait_stay_when_somebody_else_gives_a_part_of_their_node_back(race: Race) -> None:
    busy = [an_owner(f"b{i}", cores=3) for i in range(4)]
    race.appends(
        *(Arrived(0.1, Submitted(at=0.1, source="t", workload=w), f"neap.v1.workload.shop.{w.uid}", 2) for w in busy)
    )
    waiting = [op.uid for op in race.machine._appends._ops.values() if op.node == race.node]
    assert race.appends(race.foreign(race.node, 1)) == []
    assert [op.uid for op in race.machine._appends._ops.values() if op.node == race.node] == waiting
    assert len(waiting) > 1
