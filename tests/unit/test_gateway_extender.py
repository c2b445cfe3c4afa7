"""kube-scheduler's extender: who is filtered out and scored, and that nothing stands in its way."""

from __future__ import annotations

import json
from typing import Any

import pytest

from neap.common.model.qos import QosClass
from neap.gateway.core.door.admission import AdmissionSettings
from neap.gateway.core.door.extender import NodeVerdict, filtered, prioritized, question

SETTINGS = AdmissionSettings()
VERDICTS = {
    "n1": NodeVerdict(score=100.0),
    "n2": NodeVerdict(why="1.5 more cores needed"),
    "n3": NodeVerdict(why="no such card", resolvable=False),
    "n4": NodeVerdict(score=91.9),
}
NAMES = ("n1", "n2", "n3", "n4", "new")


def a_pod(**metadata: Any) -> dict[str, Any]:
    notes = {"neap.io/qos-level": "reclaimed_cores"}
    asks = {"neap.io/reclaimed-millicpu": "500"}
    return {
        "metadata": {"name": "g1", "namespace": "shop", "uid": "u1", "annotations": notes} | metadata,
        "spec": {"containers": [{"name": "main", "resources": {"requests": asks, "limits": asks}}]},
    }


def body(pod: Any, **more: Any) -> bytes:
    return json.dumps({"Pod": pod, "NodeNames": NAMES} | more).encode()


def test_names_alone_are_filtered_with_reasons_and_scored_from_none_to_ten() -> None:
    asked = question(body(a_pod()), SETTINGS)
    assert asked.workload is not None
    assert (asked.workload.uid, asked.workload.qos, asked.names) == ("u1", QosClass.RECLAIMED, NAMES)
    assert json.loads(filtered(asked, VERDICTS).body) == {
        "NodeNames": ["n1", "n4", "new"],
        "FailedNodes": {"n2": "1.5 more cores needed"},
        "FailedAndUnresolvableNodes": {"n3": "no such card"},
        "Error": "",
    }
    scores = {one["Host"]: one["Score"] for one in json.loads(prioritized(asked, VERDICTS).body)}
    assert scores == {"n1": 10, "n2": 0, "n3": 0, "n4": 6, "new": 0}


def test_whole_nodes_come_back_whole() -> None:
    nodes = [{"metadata": {"name": name, "labels": {"a": "b"}}, "status": {"x": 1}} for name in ("n1", "n2")]
    asked = question(body(a_pod(), NodeNames=None, Nodes={"items": nodes}), SETTINGS)
    result = json.loads(filtered(asked, VERDICTS).body)
    assert result["Nodes"]["items"] == nodes[:1]
    assert "NodeNames" not in result


@pytest.mark.parametrize(
    ("pod", "fault"),
    [
        (a_pod(), ""),  # the scheduler does not answer
        ({"metadata": {"name": "x"}, "spec": {"containers": [{"name": "main"}]}}, ""),
        (a_pod(annotations={"neap.io/qos-level": "turbo"}), "is no QoS level"),
        (a_pod(namespace="NO"), "metadata.namespace"),
        (7, "unreadable"),
        (None, "unreadable"),
    ],
)
def test_all_nodes_pass_where_nothing_is_known(pod: Any, fault: str) -> None:
    asked = question(body(pod), SETTINGS)
    assert fault in asked.fault
    assert json.loads(filtered(asked, None).body)["NodeNames"] == list(NAMES)
    assert {one["Score"] for one in json.loads(prioritized(asked, None).body)} == {0}


@pytest.mark.parametrize(
    "junk", [b"", b"[]", b"\xff", b'{"nodes": 7}', b'{"nodes": {"items": [{}]}}', b'{"NodeNames": 3}', b"[" * 99_999]
)
def test_what_cannot_be_read_is_answered_with_nothing(junk: bytes) -> None:
    asked = question(junk, SETTINGS)
    assert asked.fault
    assert json.loads(filtered(asked, None).body)["NodeNames"] == []
    assert json.loads(prioritized(asked, None).body) == []


@pytest.mark.parametrize(
    ("behind", "step"),
    [(0, 10), (0.9, 10), (1.1, 9), (9, 6), (18.9, 1), (19.1, 0), (60, 0), (1e300, 0), (float("nan"), 0)],
)
def test_scores_stay_within_the_protocol_and_tell_how_far_a_node_is_behind_the_best(behind: float, step: int) -> None:
    asked = question(body(a_pod(), NodeNames=["n1", "n2", "n3"]), SETTINGS)
    verdicts = {
        "n1": NodeVerdict(score=60.0),
        "n2": NodeVerdict(score=60.0 - behind),
        "n3": NodeVerdict(why="no", score=90.0),
    }
    scores = {one["Host"]: one["Score"] for one in json.loads(prioritized(asked, verdicts).body)}
    assert scores == {"n1": 10, "n2": step, "n3": 0}
    alone = question(body(a_pod(), NodeNames=["n2"]), SETTINGS)
    assert json.loads(prioritized(alone, verdicts).body) == [{"Host": "n2", "Score": 10}]
