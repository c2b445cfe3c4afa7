"""Kubernetes Events: readable, one per object and reason, counted in series, and bounded whatever happens."""

from __future__ import annotations

from neap.common.model.trail import ObjectRef
from neap.common.runtime.machine import Count
from neap.gateway.core.acts import ShowEvent
from neap.gateway.core.events import Events, EventSettings

POD = ObjectRef(namespace="shop", name="cart-1", uid="u1")


def shown(said: object) -> list[ShowEvent]:
    return [one for one in said if isinstance(one, ShowEvent)]  # type: ignore[attr-defined]


def test_an_event_says_about_whom_why_and_by_whom() -> None:
    [event] = shown(Events(EventSettings()).say(POD, "Scheduled", "bound to n1", 1_764_000_000.5, action="Binding"))
    assert event.namespace == "shop"
    assert event.body["regarding"] == {
        "apiVersion": "v1",
        "kind": "Pod",
        "namespace": "shop",
        "name": "cart-1",
        "uid": "u1",
    }
    assert event.body["reason"] == "Scheduled"
    assert event.body["action"] == "Binding"
    assert event.body["type"] == "Normal"
    assert event.body["note"] == "bound to n1"
    assert event.body["eventTime"] == "2025-11-24T16:00:00.500000Z"
    assert event.body["metadata"]["name"].startswith("cart-1.")


def test_what_happens_again_is_a_series_that_is_written_now_and_then() -> None:
    events = Events(EventSettings(every=60.0, window=300.0))
    [first] = shown(events.say(POD, "FailedScheduling", "no node", 0.0, action="Scheduling"))
    for at in range(1, 10):
        assert not shown(events.say(POD, "FailedScheduling", "still none", float(at), action="Scheduling"))
    assert not shown(events.tick(30.0))
    [again] = shown(events.tick(61.0))
    assert again.more
    assert again.name == first.name
    assert again.body["series"]["count"] == 10
    assert not shown(events.tick(200.0))  # told already
    [new] = shown(events.say(POD, "FailedScheduling", "no node", 400.0, action="Scheduling"))
    assert not new.more
    assert new.name != first.name


def test_a_flood_is_cut_off_and_counted() -> None:
    events = Events(EventSettings(rate=1.0, burst=5, most=10))
    said = [act for i in range(100) for act in events.say(ObjectRef(namespace="shop", name=f"p{i}", uid=f"u{i}"), "Scheduled", "x", 0.0, action="Binding")]  # fmt: skip
    assert len(shown(said)) == 5
    assert sum(one.by for one in said if isinstance(one, Count)) == 95
    late = ObjectRef(namespace="shop", name="late", uid="late")
    assert len(shown(events.say(late, "Scheduled", "x", 3.0, action="Binding"))) == 1


def test_a_note_and_a_name_are_never_too_long_and_an_object_without_namespace_is_told_of_in_default() -> None:
    about = ObjectRef(namespace="", name="n" * 253, uid="u", kind="Node")
    [event] = shown(Events(EventSettings()).say(about, "Lent", "x" * 5000, 0.0, action="Lending"))
    assert event.namespace == "default"
    assert len(event.body["note"]) == 1024
    assert len(event.name) < 253
    assert "namespace" not in event.body["regarding"]


def test_events_that_are_off_are_off() -> None:
    assert not Events(EventSettings(on=False)).say(POD, "Scheduled", "x", 0.0, action="Binding")
