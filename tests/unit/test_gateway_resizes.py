"""A command to resize: who is asked, in which order, what is told, and that nothing is asked twice."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from neap.common.contract.catalogue import RESIZES
from neap.common.kube.objects import DEPLOYMENTS, PODS, Condition, OwnerReference, Pod, PodContainer
from neap.common.model.recommendation import Resize, Resized, ResizeHow
from neap.common.runtime.machine import Arrived, Done, Emit, Failed, Heard, Instruction, Later
from neap.gateway.core.acts import AlreadyGone, Impossible, ReadObject, Refused, ResizePod, SizeOwner, Written
from neap.gateway.core.asking.lease import Follows
from neap.gateway.core.hearing.reflector import Complete, Seen
from neap.gateway.core.plans.sizes import Note, changes, note_for, noted, sized
from tests.unit.gateway_world import World, a_pod

SET = OwnerReference(kind="ReplicaSet", name="cart-7d9f", uid="rs", controller=True)
LABELS = {"labels": {"pod-template-hash": "7d9f"}}
NEW = {"main": {"cpu": 750}}


def a_resize(how: ResizeHow = ResizeHow.BEST, *, at: float = 1000.0, version: str = "v1", **more: Any) -> Resize:
    more = {"requests": NEW, "kind": "Deployment", **more}
    return Resize(at=at, source="planner", namespace="shop", name="cart", version=version, how=how, **more)


def a_replica(number: int, cpu: str = "1", *, shown: str = "", pending: str = "", phase: str = "Running") -> Pod:
    """One pod of the service; `shown`: what its kubelet says that it has."""
    pod = a_pod(f"cart-{number}", node="n1", phase=phase, requests={"cpu": cpu}, owner=SET, metadata=LABELS)
    status: dict[str, Any] = {"phase": phase, "conditions": []}
    if shown:
        status["containerStatuses"] = [{"name": "main", "resources": {"requests": {"cpu": shown}}}]
    if pending:
        condition = Condition(type="PodResizePending", status="True", reason=pending, message="node has 1 core left")
        status["conditions"] = [msgspec.to_builtins(condition)]
    return msgspec.structs.replace(pod, status=msgspec.convert(status, type(pod.status)))


class Stage(World):
    """A service of several replicas, and an API that answers what it is asked."""

    def __init__(self, replicas: int = 3) -> None:
        super().__init__()
        self.tell(Heard(self.at, Complete(PODS, "1", replicas)))
        for number in range(replicas):
            self.see(a_replica(number))

    def command(self, resize: Resize) -> list[Instruction]:
        return self.tell(Arrived(self.at, resize, RESIZES.at(namespace="shop").subject))

    def answer(self, said: list[Instruction], outcome: Any = None) -> list[Instruction]:
        """Reads are answered with the pod, other acts with `outcome`; what is said to that."""
        told: list[Instruction] = []
        for act in said:
            if isinstance(act, ReadObject):
                told += self.tell(Done(self.at, act, self.api[f"uid-{act.name}"]))
            elif isinstance(act, ResizePod | SizeOwner):
                told += self.tell(Done(self.at, act, outcome or Written("changed")))
        return told

    def kubelet(self, number: int, **status: Any) -> list[Instruction]:
        return self.see(a_replica(number, "750m", **status))


def of(said: list[Instruction], kind: type[Any]) -> list[Any]:
    return [one for one in said if isinstance(one, kind)]


def outcomes(said: list[Instruction]) -> list[tuple[str, str]]:
    return [(one.message.pod, one.message.outcome) for one in said
            if isinstance(one, Emit) and isinstance(one.message, Resized)]  # fmt: skip


def test_every_pod_is_resized_one_after_the_other_and_the_owner_gets_a_note() -> None:
    stage = Stage(3)
    said = stage.command(a_resize())
    [read] = of(said, ReadObject)  # one at first
    assert of(said, Later)
    [act] = of(stage.answer(said), ResizePod)
    assert (act.uid, act.resources) == ("uid-cart-0", {"main": {"resources": {"requests": {"cpu": "750m"}}}})
    assert not outcomes(stage.tell(Done(stage.at, act, Written())))
    assert not of(stage.command(a_resize()), ReadObject)  # it comes again, and the first is not done
    said = stage.kubelet(0, shown="750m")
    assert outcomes(said) == [("cart-0", "done")]
    [note] = of(said, SizeOwner)
    assert (note.kind, note.template, note.to) == (DEPLOYMENTS, False, {"main": {"requests": {"cpu": 750}}})
    assert outcomes(stage.tell(Done(stage.at, note, Written()))) == [("", "done")]
    for number in (1, 2):
        [read] = of(said, ReadObject)
        assert read.name == f"cart-{number}"
        [act] = of(stage.answer([read]), ResizePod)
        stage.tell(Done(stage.at, act, Written()))
        said = stage.kubelet(number, shown="750m")
        assert outcomes(said) == [(f"cart-{number}", "done")]
    assert of(stage.command(a_resize()), Later)  # a pod that was made before the note may be seen yet
    stage.at += 61.0
    assert not stage.command(a_resize())  # done, and acknowledged
    assert not stage.command(a_resize())


def test_a_pod_that_has_the_size_already_is_not_asked() -> None:
    stage = Stage(0)
    for number in range(2):
        stage.see(a_replica(number, "750m", shown="750m"))
    said = stage.command(a_resize())
    told = stage.answer(said)
    assert not of(told, ResizePod)
    assert outcomes(told) == [("cart-0", "done")]
    told = stage.answer(of(told, ReadObject))
    assert outcomes(told) == [("cart-1", "done")]


def test_what_is_deferred_is_told_once_holds_up_nobody_and_may_still_be_done() -> None:
    stage = Stage(2)
    [act] = of(stage.answer(stage.command(a_resize())), ResizePod)
    stage.tell(Done(stage.at, act, Written()))
    said = stage.kubelet(0, pending="Deferred")
    assert outcomes(said) == [("cart-0", "deferred")]
    assert [one.message.detail for one in of(said, Emit)] == ["node has 1 core left"]
    assert [one.name for one in of(said, ReadObject)] == ["cart-1"]
    assert not outcomes(stage.kubelet(0, pending="Deferred"))
    stage.answer(of(said, ReadObject))
    assert of(stage.command(a_resize()), Later)  # it waits
    assert outcomes(stage.kubelet(0, shown="750m")) == [("cart-0", "done")]


def test_a_kubelet_that_is_faster_than_the_answer_of_the_api_is_heard() -> None:
    stage = Stage(2)
    [act] = of(stage.answer(stage.command(a_resize())), ResizePod)
    said = stage.kubelet(0, shown="750m")
    assert outcomes(said) == [("cart-0", "done")]
    assert not outcomes(stage.tell(Done(stage.at, act, Written())))
    [act] = of(stage.answer(of(said, ReadObject)), ResizePod)
    assert not outcomes(stage.see(a_replica(1, shown="1")))  # of before
    assert outcomes(stage.kubelet(1, pending="Infeasible")) == [("cart-1", "infeasible")]
    assert not outcomes(stage.tell(Done(stage.at, act, Written())))


def test_pods_that_are_seen_only_after_the_command_and_its_note_are_resized() -> None:
    stage = Stage(0)
    [note] = of(stage.command(a_resize()), SizeOwner)
    stage.tell(Done(stage.at, note, Written("changed")))
    stage.command(a_resize())
    stage.see(a_replica(0))
    [act] = of(stage.answer(stage.command(a_resize())), ResizePod)
    stage.tell(Done(stage.at, act, Written()))
    assert outcomes(stage.kubelet(0, shown="750m")) == [("cart-0", "done")]


def test_what_is_infeasible_is_final() -> None:
    stage = Stage(1)
    [act] = of(stage.answer(stage.command(a_resize())), ResizePod)
    stage.tell(Done(stage.at, act, Written()))
    assert outcomes(stage.kubelet(0, pending="Infeasible")) == [("cart-0", "infeasible")]
    assert not stage.command(a_resize())


def test_what_the_api_refuses_of_the_first_pod_is_said_once_and_nobody_else_is_asked() -> None:
    stage = Stage(20)
    [act] = of(stage.answer(stage.command(a_resize())), ResizePod)
    said = stage.tell(Done(stage.at, act, Refused("Pod QOS Class may not change as a result of resizing")))
    assert outcomes(said) == [("", "refused")]
    [told] = of(said, Emit)
    assert "QOS Class" in told.message.detail
    assert not of(said, ReadObject)
    for _ in range(3):
        stage.pass_time(10.0)
        assert not stage.command(a_resize())


def test_many_pods_go_a_tenth_at_a_time_once_the_first_is_done() -> None:
    stage = Stage(40)
    [act] = of(stage.answer(stage.command(a_resize())), ResizePod)
    stage.tell(Done(stage.at, act, Written()))
    said = stage.kubelet(0, shown="750m")
    assert len(of(said, ReadObject)) == 4
    stage.answer(said)
    assert not of(stage.command(a_resize()), ReadObject)
    stage.at += 61.0  # their kubelets say nothing: the next are asked all the same
    assert len(of(stage.command(a_resize()), ReadObject)) == 4


def test_an_older_command_does_not_undo_a_later_one() -> None:
    stage = Stage(1)
    stage.command(a_resize(at=900.0))
    said = stage.command(a_resize(at=950.0, version="undo v1", requests={"main": {"cpu": 1000}}))
    assert outcomes(stage.answer(said)) == []  # the pod asks for that much, its kubelet has not said so yet
    assert stage.command(a_resize(at=900.0))  # counted, and no more
    assert not of(stage.command(a_resize(at=900.0)), ReadObject | ResizePod | Later)


def test_a_command_is_given_up_after_its_patience_and_never_asked_again() -> None:
    stage = Stage(1)
    stage.command(a_resize())
    stage.at += 1801.0
    said = stage.command(a_resize())
    assert not of(said, Later)
    assert "resize given up" in [one.entry.what for one in stage.trail]
    assert not stage.command(a_resize())


def test_recreate_changes_the_template_and_no_pod() -> None:
    stage = Stage(2)
    said = stage.command(a_resize(ResizeHow.RECREATE))
    assert not of(said, ReadObject)
    [act] = of(said, SizeOwner)
    assert act.template
    assert not of(stage.command(a_resize(ResizeHow.RECREATE)), SizeOwner)  # one is under way
    assert outcomes(stage.tell(Done(stage.at, act, Written("changed")))) == [("", "recreating")]
    assert not stage.command(a_resize(ResizeHow.RECREATE))


@pytest.mark.parametrize(
    ("resize", "why"),
    [
        (a_resize(ResizeHow.RECREATE, kind="Job"), "a Job's template cannot be changed"),
        (a_resize(requests={"main": {"neap.io/gpu-core": 1}}), "neap.io/gpu-core"),
        (a_resize(requests={}), "0 containers"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_the_reason_once(resize: Resize, why: str) -> None:
    stage = Stage(1)
    said = stage.command(resize)
    assert outcomes(said) == [("", "refused")]
    assert why in of(said, Emit)[0].message.detail
    assert not stage.command(resize)


def test_a_container_that_is_not_there_is_refused_by_name() -> None:
    stage = Stage(1)
    said = stage.answer(stage.command(a_resize(requests={"side": {"cpu": 100}})))
    assert outcomes(said) == [("", "refused")]
    assert "'side'" in of(said, Emit)[0].message.detail


@pytest.mark.parametrize(("how", "then"), [(ResizeHow.BEST, "recreating"), (ResizeHow.IN_PLACE, "refused")])
def test_where_pods_cannot_be_resized_best_recreates_and_in_place_says_so(how: ResizeHow, then: str) -> None:
    stage = Stage(2)
    [act] = of(stage.answer(stage.command(a_resize(how))), ResizePod)
    said = stage.tell(Done(stage.at, act, Impossible("pods/resize is not served")))
    said += stage.answer(of(said, SizeOwner))
    assert outcomes(said) == [("", then)]


def test_without_the_right_to_write_owners_pods_are_done_and_the_note_says_why_not() -> None:
    stage = Stage(1)
    [act] = of(stage.answer(stage.command(a_resize())), ResizePod)
    stage.tell(Done(stage.at, act, Written()))
    [note] = of(stage.kubelet(0, shown="750m"), SizeOwner)
    said = stage.tell(Done(stage.at, note, Refused("not allowed")))
    assert outcomes(said) == [("", "refused")]
    assert "pods made later keep their template's size" in of(said, Emit)[0].message.detail


def test_what_could_not_be_asked_is_asked_again_when_the_command_comes_again() -> None:
    stage = Stage(1)
    [read] = of(stage.command(a_resize()), ReadObject)
    stage.tell(Failed(stage.at, read, "no answer", may_retry=True))
    [act] = of(stage.answer(stage.command(a_resize())), ResizePod)
    stage.tell(Failed(stage.at, act, "no answer", may_retry=True))
    [act] = of(stage.answer(stage.command(a_resize())), ResizePod)
    stage.tell(Done(stage.at, act, AlreadyGone()))
    assert not of(stage.command(a_resize()), ReadObject)


def test_a_service_without_pods_gets_its_note_at_once_and_one_that_starts_is_waited_for() -> None:
    stage = Stage(0)
    said = stage.command(a_resize())
    [note] = of(said, SizeOwner)
    stage.tell(Done(stage.at, note, Written()))
    assert of(stage.command(a_resize()), Later)
    stage.at += 61.0
    assert not of(stage.command(a_resize()), Later)
    stage = Stage(0)
    stage.see(a_replica(0, phase="Pending"))
    assert of(stage.command(a_resize()), Later)
    stage.see(a_replica(0))
    assert of(stage.command(a_resize()), ReadObject)


def test_a_gateway_that_does_not_lead_hands_the_command_on() -> None:
    stage = Stage(1)
    stage.tell(Heard(stage.at, Follows("another")))
    assert [type(one) for one in stage.command(a_resize())] == [Later]


def test_pods_are_known_by_their_deployment_whatever_their_replica_set() -> None:
    stage = Stage(1)
    other = OwnerReference(kind="ReplicaSet", name="cart-5c6b", uid="rs2", controller=True)
    pod = a_pod("old", node="n1", phase="Running", owner=other, metadata={"labels": {"pod-template-hash": "5c6b"}})
    stage.see(pod)
    stage.tell(Heard(stage.at, Seen(PODS, pod, "9")))
    said = stage.command(a_resize())
    stage.tell(Done(stage.at, of(said, ReadObject)[0], AlreadyGone()))
    names = {one.name for _ in range(2) for one in of(stage.command(a_resize()), ReadObject)}
    assert names <= {"cart-0", "old"}
    assert names


# -- sizes -----------------------------------------------------------------------------------------------------------


def containers(**cpu: str) -> list[PodContainer]:
    return [msgspec.convert({"name": name, "resources": {"requests": {"cpu": one}}}, PodContainer)
            for name, one in cpu.items()]  # fmt: skip


def test_only_what_differs_is_patched_however_it_is_written() -> None:
    to = {"main": {"requests": {"cpu": 1000, "memory": 1 << 30}}, "side": {"requests": {"cpu": 100}}}
    assert changes(containers(main="1000m", side="0.1", third="5"), to) == {
        "main": {"resources": {"requests": {"memory": str(1 << 30)}}}
    }


def test_a_note_holds_until_somebody_writes_another_amount_and_is_none_where_the_template_says_so() -> None:
    to = {"main": {"requests": {"cpu": 750}}}
    text = note_for(containers(main="1"), to, "v1")
    assert text is not None
    pod = a_pod(metadata={"annotations": {"neap.io/size": text}})
    note = noted(pod.metadata)
    assert note == Note(version="v1", before={"main": {"requests": {"cpu": 1000}}}, to=to)
    assert sized({"name": "main", "resources": {"requests": {"cpu": "1000m", "memory": "1Gi"}}}, note) == {
        "requests": {"cpu": "750m", "memory": "1Gi"}
    }
    assert sized({"name": "main", "resources": {"requests": {"cpu": "2"}}}, note) is None
    assert sized({"name": "side", "resources": {"requests": {"cpu": "1"}}}, note) is None
    assert note_for(containers(main="750m"), to, "v1") is None


def test_a_note_never_asks_for_more_than_a_limit_allows() -> None:
    note = Note(version="v1", before={"main": {"requests": {"cpu": 1000}}}, to={"main": {"requests": {"cpu": 3000}}})
    resources = {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}
    assert sized({"name": "main", "resources": resources}, note) is None


@pytest.mark.parametrize("text", ["", "{", '{"version": "v"}', '{"version":"v","from":{},"to":{"a":{"requests":{"x":1}}}}',
                                  '{"version":"v","from":{},"to":{"a":{"requests":{"cpu":-1}}}}', "[" * 20_000])  # fmt: skip
def test_a_note_that_cannot_be_read_says_nothing(text: str) -> None:
    assert noted(a_pod(metadata={"annotations": {"neap.io/size": text}}).metadata) is None
