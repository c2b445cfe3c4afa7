"""Whatever is resized, crashes, comes late or twice: in the end a node's ledger says what its pods really have.

The world of tests/laws/test_scheduler_ledger.py, in which kubelets give pods other sizes, fitting or not.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from neap.common.model.gpu import empty_rooms
from neap.common.model.lifecycle import Started
from neap.common.model.resource import CPU, MEMORY
from neap.common.model.workload import Container, Size
from neap.common.units import GIB
from tests.laws.test_scheduler_ledger import LedgerRace


class ResizedRace(LedgerRace):
    """Nodes resize what they run: a fact, whether it fits or not."""

    def __init__(self) -> None:
        self.sizes: dict[tuple[str, int], Size] = {}  # by uid and attempt
        self.told = 0
        super().__init__()

    @rule(data=st.data(), cores=st.sampled_from([500, 1000, 3000, 9000]))
    @precondition(lambda self: any(self.streams.held.values()))
    def resize(self, data: st.DataObject, cores: int) -> None:
        held = sorted((uid, node) for node, placements in self.streams.held.items() for uid in placements)
        uid, node = data.draw(st.sampled_from(held))
        workload = self.streams.held[node][uid].workload
        [main] = workload.containers
        size = Size(containers=(Container(name="main", requests=main.requests | {CPU: cores}),))
        self.told += 1
        at = self.at + self.told / 1000  # whoever tells of sizes sees to it that a later word is younger
        self.sizes[uid, workload.attempt] = size
        started = Started(at=at, source="t", uid=uid, node=node, attempt=workload.attempt, size=size)
        self.say(started, workload, f"{workload.attempt}.sized.{at}")

    @rule(which=st.integers(0, 99))
    @precondition(lambda self: self.sizes)
    def an_old_word_comes_again(self, which: int) -> None:
        told = [
            (subject, event) for subject, event in self.streams.workloads if isinstance(event, Started) and event.size
        ]
        self.streams.workloads.append(told[which % len(told)])

    def check_capacity(self, node: str) -> None:
        """What kubelets do may overfill a node; cards are given by the scheduler alone."""
        topology = next(one for one in self.nodes if one.node == node)
        rooms = {room.index: room for room in empty_rooms(topology.cards)}
        for share in (share for held in self.streams.held[node].values() for share in held.gpus):
            rooms[share.card] = rooms[share.card].take(share)
        assert all(room.core_free >= 0 and room.memory_free_mib >= 0 for room in rooms.values())

    def teardown(self) -> None:
        super().teardown()
        table = self.machine._table
        for node, placements in self.streams.held.items():
            cores = memory = 0
            for uid, placement in placements.items():
                size = self.sizes.get((uid, placement.workload.attempt), self.submitted[uid].size)
                assert placement.workload.size == size, f"{uid} is charged another size"
                assert placement.charged == placement.workload.requests
                cores, memory = cores + placement.workload.requests[CPU], memory + GIB
            row = table.row(node)
            assert table.columns[f"requested/{CPU}"][row] == cores, f"{node} has {cores} in use"
            assert table.columns[f"requested/{MEMORY}"][row] == memory


ResizedRace.TestCase.settings = settings(max_examples=120, stateful_step_count=50, deadline=None)
test_the_ledger_says_what_pods_really_have = ResizedRace.TestCase
