"""The pods of examples/kubernetes at the door: changed as their comments say, and refused by nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from neap.gateway.core.door.admission import AdmissionSettings, judge
from tests.conftest import ROOT

PLACE = ROOT / "examples/kubernetes"


def pods(path: Path) -> list[dict[str, Any]]:
    """A pod, or the one that a Deployment makes."""
    found = []
    for one in yaml.safe_load_all(path.read_text()):
        if one["kind"] == "Deployment":
            found.append(
                {
                    "metadata": {"name": "x-1", **one["spec"]["template"]["metadata"]},
                    "spec": one["spec"]["template"]["spec"],
                }
            )
        elif one["kind"] == "Pod":
            found.append(one)
    return found  # fmt: skip


WITH_PODS = [path for path in sorted(PLACE.rglob("*.yaml")) if pods(path)]


def judged(pod: dict[str, Any]) -> Any:
    request = {
        "uid": "u",
        "operation": "CREATE",
        "namespace": "default",
        "object": {"apiVersion": "v1", "kind": "Pod", **pod},
    }
    request["resource"] = {"group": "", "version": "v1", "resource": "pods"}
    review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    return judge(msgspec.json.encode(review), AdmissionSettings(), changes=True)


@pytest.mark.parametrize("path", WITH_PODS, ids=lambda path: str(path.relative_to(PLACE)))
def test_every_example_is_admitted_and_by_a_judge_who_looked(path: Path) -> None:
    for pod in pods(path):
        verdict = judged(pod)
        assert verdict.why == ""
        assert verdict.fault == ""


def test_a_wrong_example_would_be_refused() -> None:
    [pod] = pods(PLACE / "gpu-share.yaml")
    for side in pod["spec"]["containers"][0]["resources"].values():
        side["neap.io/gpu-memory"] = "16"
    assert "at least 256 MiB" in judged(pod).why


def test_the_reclaimed_example_asks_for_what_is_lent() -> None:
    [pod] = pods(PLACE / "reclaimed.yaml")
    changed = [one["value"] for one in judged(pod).patch if one["path"].endswith("/resources")]
    assert changed
    for resources in changed:
        assert resources["requests"] == resources["limits"]
        assert resources["requests"] == {"neap.io/reclaimed-millicpu": "2000", "neap.io/reclaimed-memory": "1Gi"}
