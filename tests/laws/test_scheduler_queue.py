"""Laws of queue and book: nobody is lost, order is order, and repeated events change nothing."""

from __future__ import annotations

from copy import deepcopy

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from neap.common.model.lifecycle import Ended, EndReason, LifecycleEvent, Submitted
from neap.scheduler.core.choice.cycle import Decision
from neap.scheduler.core.flow.book import Backoff, Book
from neap.scheduler.core.flow.queue import Queue, place_of
from neap.scheduler.core.nodes.change import NodeChanged
from neap.scheduler.core.pods.pod import Pod, pod_of
from tests.unit.scheduler_world import an_owner

CHANGES = st.sets(st.sampled_from(list(NodeChanged)), min_size=1)


class Waiting(RuleBasedStateMachine):
    """A queue beside the simplest thing that could be one: a dictionary that is sorted whenever somebody asks."""

    def __init__(self) -> None:
        super().__init__()
        self.queue, self.at, self.count = Queue(limit=8), 0.0, 0
        self.there: dict[str, tuple[Pod, float]] = {}
        self.asleep: dict[object, frozenset[NodeChanged]] = {}

    def best(self) -> Pod | None:
        ready = [pod for pod, ready_at in self.there.values() if ready_at <= self.at and pod.shape not in self.asleep]
        return min(ready, key=place_of, default=None)

    @rule(cores=st.integers(1, 3), priority=st.integers(-1, 1), wait=st.sampled_from([0.0, 0.0, 5.0]))
    def push(self, cores: int, priority: int, wait: float) -> None:
        self.count += 1
        pod = pod_of(an_owner(f"u{self.count}", cores=cores, priority=priority), float(self.count // 2))
        out = self.queue.push(pod, ready_at=self.at + wait, at=self.at)
        self.there[pod.uid] = (pod, self.at + wait)
        worst = min(
            (pod for pod, _ in self.there.values()),
            key=lambda pod: (pod.workload.priority, -pod.submitted_at, -pod.workload.attempt, pod.uid),
        )
        assert out is (worst if len(self.there) > 8 else None)
        if out is not None:
            del self.there[out.uid]

    @rule()
    def pop(self) -> None:
        self.queue.ripen(self.at)
        expected = self.best()
        assert self.queue.pop() is expected
        if expected is not None:
            del self.there[expected.uid]

    @rule(wakes=CHANGES)
    def reject(self, wakes: set[NodeChanged]) -> None:
        self.queue.ripen(self.at)
        pod = self.queue.pop()
        assert pod is self.best()
        if pod is not None:
            self.queue.sleep(pod, Decision(pod, wakes=frozenset(wakes)))
            self.asleep[pod.shape] = frozenset(wakes)
            self.there[pod.uid] = (pod, self.at)

    @rule(changes=CHANGES)
    def wake(self, changes: set[NodeChanged]) -> None:
        self.queue.wake(changes)
        self.asleep = {shape: wakes for shape, wakes in self.asleep.items() if not wakes & changes}

    @rule()
    def flush(self) -> None:
        self.queue.flush()
        self.asleep.clear()

    @rule(which=st.integers(0, 7))
    def leave(self, which: int) -> None:
        if self.there:
            uid = sorted(self.there)[which % len(self.there)]
            self.queue.leave(uid)
            del self.there[uid]

    @rule()
    def pass_time(self) -> None:
        self.at += 3.0

    @invariant()
    def nobody_is_lost(self) -> None:
        self.queue.validate()
        assert len(self.queue) == len(self.there)
        assert all(uid in self.queue for uid in self.there)


test_the_queue_does_what_a_sorted_list_would_do = Waiting.TestCase


@st.composite
def lives(draw: st.DrawFn) -> list[LifecycleEvent]:
    """Events of two workloads; each workload's own events in a possible order, with repetitions of old ones."""
    events: list[LifecycleEvent] = []
    attempts = {"a": 0, "b": 0}
    for at in range(draw(st.integers(1, 10))):
        uid = draw(st.sampled_from(["a", "b"]))
        if attempts[uid] == 0:
            events.append(Submitted(at=at, source="t", workload=an_owner(uid)))
            attempts[uid] = 1
        else:
            reason = draw(
                st.sampled_from([EndReason.EVICTED, EndReason.REFUSED, EndReason.FINISHED, EndReason.DELETED])
            )
            events.append(Ended(at=at, source="t", uid=uid, node="n", attempt=attempts[uid], reason=reason))
            attempts[uid] += 1
    return events


@given(lives(), st.data())
def test_repeated_events_change_nothing(events: list[LifecycleEvent], data: st.DataObject) -> None:
    once, often = Book(Backoff(), remember=100), Book(Backoff(), remember=100)
    for i, event in enumerate(events):
        once.fold(event)
        often.fold(event)
        again = data.draw(st.sampled_from(events[: i + 1]))
        before = deepcopy(often.records)
        assert often.fold(again) is None
        assert often.records == before
    assert once.records == often.records


@given(st.integers(2, 200))
def test_the_wait_before_another_attempt_grows_up_to_its_cap(attempt: int) -> None:
    book = Book(Backoff(first=10, most=300), remember=10)
    book.fold(Submitted(at=0.0, source="t", workload=an_owner("a", attempt=attempt - 1)))
    record = book.fold(Ended(at=100.0, source="t", uid="a", node="n", attempt=attempt - 1, reason=EndReason.EVICTED))
    assert record is not None
    assert record.ready_at - 100.0 == min(300.0, 10.0 * 2 ** (attempt - 2))


def test_what_ended_is_remembered_up_to_a_limit() -> None:
    book = Book(Backoff(), remember=2)
    for uid in "abc":
        book.fold(Submitted(at=0.0, source="t", workload=an_owner(uid)))
        book.fold(Ended(at=0.0, source="t", uid=uid, node="", attempt=1, reason=EndReason.FINISHED))
        book.settle(uid)
    assert set(book.records) == {"b", "c"}
    assert book.named("shop", "a") is None
    assert book.fold(Submitted(at=9.0, source="t", workload=an_owner("c"))) is None
