"""Laws of resizes: whatever fails, comes late, comes twice or restarts, pods get their size, few at a time, asked once."""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from neap.common.kube.objects import PODS, Pod
from neap.common.model.recommendation import Resize, Resized
from neap.common.runtime.machine import Arrived, Done, Emit, Event, Failed, Heard, Instruction
from neap.gateway.core.acts import AlreadyGone, ReadObject, Refused, ResizePod, SizeOwner, Written
from neap.gateway.core.hearing.reflector import Seen
from tests.unit.test_gateway_resizes import Stage, a_replica, a_resize

WORDS = ("again", "act", "fail", "lose", "slow", "answer", "kubelet", "defer", "go", "come", "wait")
STEPS = st.lists(st.tuples(st.sampled_from(WORDS), st.integers(0, 40)), max_size=60)


class Cluster(Stage):
    """An API that carries out what it is asked, in any order, and kubelets that follow when they like."""

    def __init__(self, replicas: int) -> None:
        self.asked: deque[Instruction] = deque()
        self.answers: deque[Event] = deque()  # on their way
        self.watched: dict[int, Pod] = {}  # by number, as the watch told last
        self.sizes: dict[int, str] = {}  # by number, of pods that are there
        self.writes: list[int] = []
        super().__init__(replicas)
        self.sizes = dict.fromkeys(range(replicas), "1")
        self.resize: Resize = a_resize(at=self.at)
        self.is_open = True

    def hear(self, *events: Event) -> list[Instruction]:  # type: ignore[override]
        """What is said to it; acts wait until somebody carries them out."""
        if not events:
            super().hear()
        said = self.tell(*events)
        self.asked += [one for one in said if isinstance(one, ReadObject | ResizePod | SizeOwner)]
        return said

    def again(self) -> None:
        """The bus delivers the command while it is not acknowledged."""
        if self.is_open:
            said = self.hear(Arrived(self.at, self.resize))
            self.is_open = any(type(one).__name__ == "Later" for one in said)

    def answer(self) -> None:
        """The oldest answer arrives."""
        if self.answers:
            self.hear(self.answers.popleft())

    def carry_out(self, *, fails: bool = False, answers: bool = True, slow: bool = False) -> None:
        if not self.asked:
            return
        act = self.asked.popleft()
        outcome = None if fails else self._done(act)
        if outcome is None or not answers:
            self.is_open = True  # what failed comes back
            self.hear(Failed(self.at, act, "no answer", may_retry=True))
        else:
            self.answers.append(Done(self.at, act, outcome))
            if not slow:
                self.answer()

    def _done(self, act: Instruction) -> Any:
        if isinstance(act, SizeOwner):
            return Written("changed")
        name = act.name if isinstance(act, ReadObject | ResizePod) else ""
        number = int(name.rpartition("-")[2])
        if number not in self.sizes:
            return AlreadyGone()
        if isinstance(act, ReadObject):
            return self.api[f"uid-{name}"]
        assert self.sizes[number] != "750m", "nothing is asked that is so already"
        self.sizes[number] = "750m"
        self.keep(a_replica(number, "750m"))
        self.writes.append(number)
        return Written()

    def show(self, number: int, pending: str = "") -> None:
        """Its kubelet says what it has, if that is news: a watch tells everything once."""
        if number in self.sizes and not (pending and self.sizes[number] == "1"):
            size = self.sizes[number]
            pod = a_replica(number, size, shown="" if pending else size, pending=pending)
            if self.watched.get(number) == pod:
                return
            self.watched[number] = pod
            self.keep(pod)
            self.hear(Heard(self.at, Seen(PODS, self.api[f"uid-cart-{number}"], "2")))

    def come(self, number: int) -> None:
        """One more pod."""
        self.sizes[number] = "1"
        self.keep(a_replica(number))
        self.hear(Heard(self.at, Seen(PODS, self.api[f"uid-cart-{number}"], "1")))

    def keep(self, pod: Pod) -> None:
        self.api[pod.metadata.uid] = pod


def under_way(cluster: Cluster) -> int:
    return sum(isinstance(one, ResizePod | ReadObject) for one in cluster.asked)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), STEPS)
@example(1, [("act", 0), ("slow", 0), ("kubelet", 0), ("answer", 0)])  # a kubelet faster than the API's answer
def test_every_pod_gets_its_size_few_at_a_time_and_is_asked_once(replicas: int, steps: list[tuple[str, int]]) -> None:
    cluster = Cluster(replicas)
    late = set[int]()  # they came after the command had ended
    cluster.again()
    for word, number in steps:
        match word:
            case "again":
                cluster.again()
            case "act" | "fail" | "lose" | "slow":
                cluster.carry_out(fails=word == "fail", answers=word != "lose", slow=word == "slow")
            case "answer":
                cluster.answer()
            case "kubelet" | "defer":
                asked = cluster.writes or list(range(replicas))
                cluster.show(asked[-1 - number % len(asked)], "Deferred" if word == "defer" else "")
            case "go" if number % replicas in cluster.sizes and len(cluster.sizes) > 1:
                del cluster.sizes[number % replicas]
                cluster.watched.pop(number % replicas, None)
                cluster.remove(f"uid-cart-{number % replicas}")
            case "come" if number >= replicas and number not in cluster.sizes:
                cluster.come(number)
                late |= set() if cluster.is_open else {number}
            case "wait":
                cluster.at += 0.5
        assert under_way(cluster) <= max(1, replicas // 10 + 4), "few at a time"
    for _ in range(20 + 6 * (replicas + len(steps))):
        cluster.again()
        while cluster.asked or cluster.answers:
            cluster.answer()
            cluster.carry_out()
        for number in list(cluster.sizes):
            cluster.show(number)
        if not cluster.is_open and not cluster.asked:
            break
        cluster.at += 5.0
    assert not cluster.is_open, "the command ends"
    assert {size for number, size in cluster.sizes.items() if number not in late} <= {"750m"}
    assert len(cluster.writes) == len(set(cluster.writes)), "nobody is asked twice"
    said = [(emit.uid, emit.outcome) for emit in resized(cluster) if emit.uid]
    assert len(said) == len(set(said)), "nothing is told twice"


def resized(cluster: Cluster) -> list[Resized]:
    return [one.message for one in cluster.said if isinstance(one, Emit) and isinstance(one.message, Resized)]


@given(st.integers(1, 30))
@settings(max_examples=30, deadline=None)
def test_what_is_refused_is_asked_of_one_pod_only(replicas: int) -> None:
    cluster = Cluster(replicas)
    cluster.again()
    asked = 0
    for _ in range(20):
        cluster.again()
        while cluster.asked:
            act = cluster.asked.popleft()
            asked += isinstance(act, ResizePod)
            outcome = Refused("no") if isinstance(act, ResizePod) else cluster._done(act)
            cluster.hear(Done(cluster.at, act, outcome))
        cluster.at += 5.0
    assert asked == 1
    assert [(one.uid, one.outcome) for one in resized(cluster)] == [("", "refused")]
    assert msgspec.json.encode(resized(cluster)[0])
