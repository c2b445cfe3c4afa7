"""What is written to nodes: never more than the budget, every change that stays within its bound, less before more."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from neap.common.model.resource import RECLAIMED_CPU
from neap.gateway.core.nodes.mirror import Mirror, MirrorSettings, Write, is_change

KIND = RECLAIMED_CPU
OFFERS = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 400)), max_size=12)


class Replay:
    """Nodes whose offers change, and an API that takes what is written after a beat."""

    def __init__(self, settings: MirrorSettings, nodes: int) -> None:
        self.settings, self.mirror, self.at = settings, Mirror(settings), 1000.0
        self.offered, self.written = dict.fromkeys(range(nodes), 0), dict.fromkeys(range(nodes), 0)
        self.since: dict[int, float] = {}  # a change that is not written
        self.wrote: deque[tuple[float, int]] = deque()  # when, calls
        self.refreshed = dict.fromkeys(range(nodes), self.at)
        self.slow = False  # answers come two beats later
        self._under_way: deque[list[tuple[Write, bool]]] = deque([[], []])
        for node in range(nodes):
            self.mirror.see(str(node), {KIND: 0}, self.at)

    def offer(self, node: int, amount: int) -> None:
        self.offered[node] = amount
        self.mirror.offer(str(node), {KIND: amount}, self.at)
        if not is_change(self.written[node], amount, self.settings.least_change):
            self.since.pop(node, None)
        else:
            self.since.setdefault(node, self.at)

    def beat(self, *, well: bool = True) -> list[Write]:
        self.at += 1.0
        for write, was_well in self._under_way.popleft():
            self.mirror.answered(write.node, self.at, well=was_well)
        writes = self.mirror.take(self.at, 1.0)
        self.mirror.validate()
        self._under_way.append([(write, well) for write in writes] if self.slow else [])
        for write in writes:
            node = int(write.node)
            if write.both and well:
                self.written[node] = self.offered[node]
                self.since.pop(node, None)
            self.refreshed[node] = self.at
            if not self.slow:
                self.mirror.answered(write.node, self.at, well=well)
        self.wrote.append((self.at, sum(1 + write.both for write in writes)))
        return writes


@given(st.lists(OFFERS, max_size=40), st.sampled_from([1.5, 3.0, 8.0]))
def test_no_second_has_more_calls_than_the_budget_and_no_change_waits_longer_than_its_bound(
    beats: list[list[tuple[int, int]]], writes: float
) -> None:
    settings = MirrorSettings(writes=writes, patience=5.0, refresh=30.0)
    replay = Replay(settings, nodes=8)
    bound = settings.patience + 2 * 8 / writes + 3
    for offers in [*beats, *([[]] * int(bound + 1))]:
        for node, amount in offers:
            replay.offer(node, amount)
        replay.beat()
        assert replay.wrote[-1][1] <= writes + 1e-9 + 1  # a call that was begun before is finished
        late = {node: since for node, since in replay.since.items() if replay.at - since > bound}
        assert not late, f"not written within {bound} s: {late}"
    over = sum(calls for _, calls in replay.wrote)
    assert over <= writes * len(replay.wrote) + 1
    assert not replay.since


@given(st.lists(OFFERS, max_size=20), st.integers(0, 2**20), st.booleans())
def test_failed_writes_are_written_again_and_nothing_is_lost(
    beats: list[list[tuple[int, int]]], fails: int, slow: bool
) -> None:
    replay = Replay(MirrorSettings(writes=8.0, patience=5.0, refresh=1000.0, retry=2.0), nodes=8)
    replay.slow = slow
    for number, offers in enumerate(beats):
        for node, amount in offers:
            replay.offer(node, amount)
        replay.beat(well=not fails >> number % 20 & 1)
    for _ in range(40):
        replay.beat()
    for node, amount in replay.offered.items():
        assert not is_change(replay.written[node], amount, 0.05), f"{node}: {replay.written[node]}, offered {amount}"


@given(st.integers(2, 30), st.integers(1, 6))
def test_who_offers_less_is_written_first(nodes: int, per_beat: int) -> None:
    replay = Replay(MirrorSettings(writes=2.0 * per_beat, refresh=10_000.0), nodes=nodes)
    for node in range(nodes):
        replay.offer(node, 100)
    while replay.since:
        replay.beat()
    for node in range(nodes):
        replay.offer(node, 200 if node % 2 else 50)
    order = [int(write.node) % 2 for _ in range(nodes) for write in replay.beat() if write.both]
    assert order == sorted(order)
    assert len(order) == nodes


def test_small_changes_and_silence_cost_one_refresh_per_interval() -> None:
    replay = Replay(MirrorSettings(writes=100.0, refresh=60.0), nodes=20)
    for node in range(20):
        replay.offer(node, 1000)
    for _ in range(600):
        for node in range(20):
            replay.offer(node, 1000 + int(replay.at * 7 + node) % 49)  # below 5 %
        replay.beat()
    calls = sum(count for _, count in list(replay.wrote)[60:])
    assert 180 <= calls <= 200, calls  # 20 nodes, every 60 s
    assert all(replay.at - then <= 62.0 for then in replay.refreshed.values())


def test_more_is_written_though_others_offer_less_all_the_time() -> None:
    settings = MirrorSettings(writes=2.0, patience=10.0, refresh=10_000.0)
    replay = Replay(settings, nodes=8)
    for node in range(8):
        replay.offer(node, 1_000_000)
    while replay.since:
        replay.beat()
    replay.offer(0, 2_000_000)
    since = replay.at
    while replay.written[0] != 2_000_000:
        for node in range(1, 8):
            replay.offer(node, int(replay.offered[node] * 0.94))
        replay.beat()
        assert replay.at - since <= settings.patience + 2 * 8 / settings.writes + 1
