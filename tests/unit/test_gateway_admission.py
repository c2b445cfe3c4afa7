"""The admission webhook: who is changed how, who is refused with which words, and who is left alone."""

from __future__ import annotations

import base64
import copy
import json
from typing import Any

import pytest
import yaml

from neap.common.kube.objects import Metadata
from neap.gateway.core.door.admission import AdmissionSettings, Verdict, encode, judge
from neap.gateway.core.door.notes import Notes
from neap.gateway.core.plans.sizes import NOTE, Note

SETTINGS = AdmissionSettings()
LEVEL = "neap.io/qos-level"
THEIR_LEVEL = "katalyst.kubewharf.io/qos_level"
MEMORY = "katalyst.kubewharf.io/memory_enhancement"
CPU = "katalyst.kubewharf.io/cpu_enhancement"
RECLAIMED = {LEVEL: "reclaimed_cores"}


def a_container(name: str = "main", requests: Any = None, limits: Any = None, **more: Any) -> dict[str, Any]:
    sides = {"requests": requests, "limits": limits}
    return {"name": name, "image": "i", "resources": {k: v for k, v in sides.items() if v is not None}, **more}


def a_pod(*containers: dict[str, Any], annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": "cart-1", "namespace": "shop"}
    if annotations is not None:
        metadata["annotations"] = annotations
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": list(containers) or [a_container()], **spec},
    }


def a_review(pod: Any, **request: Any) -> bytes:
    asked = {
        "uid": "u1",
        "operation": "CREATE",
        "namespace": "shop",
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "object": pod,
        "oldObject": None,
        "dryRun": False,
    }
    body = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": asked | request}
    return json.dumps(body).encode()


def asked(pod: Any, *, settings: AdmissionSettings = SETTINGS, changes: bool = True, **request: Any) -> Verdict:
    return judge(a_review(pod, **request), settings, changes=changes)


def applied(pod: dict[str, Any], verdict: Verdict) -> dict[str, Any]:
    """The pod after a JSON patch of additions."""
    result = copy.deepcopy(pod)
    for step in verdict.patch:
        assert step["op"] == "add"
        *way, last = [part.replace("~1", "/").replace("~0", "~") for part in step["path"].split("/")[1:]]
        place: Any = result
        for part in way:
            place = place[int(part)] if isinstance(place, list) else place[part]
        place[last] = step["value"]
    return result


def changed(pod: dict[str, Any]) -> dict[str, Any]:
    verdict = asked(pod)
    assert verdict.why == "", verdict.why
    assert verdict.fault == "", verdict.fault
    return applied(pod, verdict)


@pytest.mark.parametrize(
    ("requests", "limits", "both"),
    [
        (
            {"cpu": "1", "memory": "2Gi"},
            None,
            {"neap.io/reclaimed-millicpu": "1000", "neap.io/reclaimed-memory": "2Gi"},
        ),
        ({"cpu": "250m"}, {"cpu": "2"}, {"neap.io/reclaimed-millicpu": "250"}),
        ({"cpu": "1.5"}, {"cpu": "1.5"}, {"neap.io/reclaimed-millicpu": "1500"}),
        (None, {"cpu": "2", "memory": "1G"}, {"neap.io/reclaimed-millicpu": "2000", "neap.io/reclaimed-memory": "1G"}),
        ({"cpu": "0"}, None, {}),
        ({"neap.io/reclaimed-cpu": "500m"}, None, {"neap.io/reclaimed-millicpu": "500"}),
        ({"neap.io/reclaimed-cpu": "2"}, None, {"neap.io/reclaimed-cpu": "2"}),
        ({"katalyst.kubewharf.io/reclaimed_millicpu": "4k"}, None, {"neap.io/reclaimed-millicpu": "4000"}),
        ({"cpu": "500m", "neap.io/reclaimed-millicpu": "100"}, None, {"neap.io/reclaimed-millicpu": "100"}),
    ],
)
def test_what_a_guest_asks_for_is_lent(requests: Any, limits: Any, both: dict[str, str]) -> None:
    pod = changed(a_pod(a_container(requests=requests, limits=limits), annotations=RECLAIMED))
    resources = pod["spec"]["containers"][0]["resources"]
    assert resources == ({"requests": both, "limits": both} if both else {})


def test_sidecars_and_init_containers_borrow_too_and_other_kinds_stay() -> None:
    kinds = {"cpu": "100m", "ephemeral-storage": "1Gi", "nvidia.com/gpu": "1"}
    pod = a_pod(
        a_container(requests=kinds),
        annotations=RECLAIMED,
        initContainers=[
            a_container("side", {"memory": "1Mi"}, restartPolicy="Always"),
            a_container("first", {"cpu": "3"}),
        ],
    )
    spec = changed(pod)["spec"]
    assert spec["containers"][0]["resources"]["requests"] == {
        "ephemeral-storage": "1Gi", "nvidia.com/gpu": "1", "neap.io/reclaimed-millicpu": "100"
    }  # fmt: skip
    assert spec["initContainers"][0]["resources"]["requests"] == {"neap.io/reclaimed-memory": "1Mi"}
    assert spec["initContainers"][1]["resources"]["limits"] == {"neap.io/reclaimed-millicpu": "3000"}


def test_what_was_asked_stands_in_an_annotation_and_a_second_review_changes_nothing() -> None:
    pod = changed(a_pod(a_container(requests={"cpu": "1"}, limits={"cpu": "2"}), annotations=RECLAIMED))
    assert pod["metadata"]["annotations"]["neap.io/asked"] == "main: cpu=1 limit cpu=2"
    again = asked(pod)
    assert again.outcome == "passed"
    assert again.patch == ()


def test_a_limit_range_that_runs_again_after_us_does_not_make_a_guest_an_owner() -> None:
    pod = changed(a_pod(a_container(requests={"cpu": "1"}), annotations=RECLAIMED))
    pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "100m"
    pod["spec"]["containers"][0]["resources"]["limits"]["cpu"] = "200m"
    again = asked(pod)
    assert applied(pod, again)["spec"]["containers"][0]["resources"]["requests"] == {
        "neap.io/reclaimed-millicpu": "1000"
    }
    assert again.warnings == ("container main: cpu=100m is dropped, neap.io/reclaimed-millicpu is what it gets",)


@pytest.mark.parametrize(
    ("annotations", "spec", "scheduler"),
    [
        (RECLAIMED, {}, "neap"),
        (RECLAIMED, {"schedulerName": "default-scheduler"}, "neap"),
        ({THEIR_LEVEL: "shared_cores"}, {"schedulerName": "katalyst-scheduler"}, "neap"),
        ({}, {"schedulerName": "katalyst-scheduler"}, "neap"),
        ({LEVEL: "shared_cores"}, {"schedulerName": "default-scheduler"}, "default-scheduler"),
        (RECLAIMED, {"schedulerName": "volcano"}, "volcano"),
        (RECLAIMED, {"nodeName": "n1"}, None),
        ({"neap.io/gang": "train", "neap.io/gang-size": "2"}, {}, "neap"),
        ({MEMORY: '{"numa_binding": "true"}'}, {}, "neap"),
        ({MEMORY: '{"numa_binding": "false"}'}, {}, None),
    ],
)
def test_pods_only_neap_can_place_get_its_scheduler(annotations: Any, spec: Any, scheduler: str | None) -> None:
    requests = None if annotations is RECLAIMED else {"cpu": "1", "memory": "1Gi"}
    pod = a_pod(a_container(requests=requests, limits=requests), annotations=annotations, **spec)
    assert changed(pod)["spec"].get("schedulerName") == scheduler


def test_katalysts_dedicated_numa_pod_and_cpu_pool_mean_what_they_say() -> None:
    own = {"cpu": "1", "memory": "1Gi"}
    notes = {THEIR_LEVEL: "dedicated_cores", MEMORY: '{"numa_binding": "true", "numa_exclusive": "true"}'}
    assert changed(a_pod(a_container(requests=own, limits=own), annotations=notes))["spec"]["schedulerName"] == "neap"
    notes = {THEIR_LEVEL: "shared_cores", CPU: '{"cpuset_pool": "batch", "cpu_burst_policy": "static"}'}
    pod = a_pod(a_container(requests=own), annotations=notes)
    assert changed(pod)["metadata"]["annotations"]["neap.io/cpuset-pool"] == "batch"
    assert asked(pod).warnings == (f"cpu_burst_policy of {CPU} is not followed by neap",)


def test_katalysts_shares_of_cards_are_read_in_percent_and_mebibytes() -> None:
    theirs = {
        "resource.katalyst.kubewharf.io/milligpu": "300",
        "resource.katalyst.kubewharf.io/gpu_memory": "8192",
        "cpu": "1",
    }
    ours = {"cpu": "1", "neap.io/gpu-core": "30", "neap.io/gpu-memory": "8192"}
    pod = changed(a_pod(a_container(requests=theirs, limits=theirs), annotations={}))
    assert pod["spec"]["containers"][0]["resources"] == {"requests": ours, "limits": ours}
    assert pod["spec"]["schedulerName"] == "neap"


@pytest.mark.parametrize(
    ("resources", "annotations", "says"),
    [
        ({"cpu": 1}, {LEVEL: "turbo"}, "neap.io/qos-level='turbo' is no QoS level (known: dedicated_cores"),
        ({"cpu": 1}, {LEVEL: "shared_cores", THEIR_LEVEL: "system_cores"}, "QoS level asked twice and differently"),
        (
            {"cpu": 1},
            {THEIR_LEVEL: "dedicated_cores"},
            f"{THEIR_LEVEL}=dedicated_cores needs Kubernetes QoS Guaranteed",
        ),
        (
            {},
            {LEVEL: "shared_cores"},
            "shared_cores needs Kubernetes QoS Burstable or Guaranteed, the pod is BestEffort",
        ),
        ({"cpu": 1}, {MEMORY: "{"}, f"{MEMORY}='{{' is no JSON object"),
        ({"cpu": 1}, {MEMORY: '{"numa_exclusive": "true"}'}, "numa_exclusive without numa_binding"),
        ({"cpu": 1}, {MEMORY: '{"numa_binding": "yes"}'}, "neither 'true' nor 'false'"),
        ({"cpu": 1}, {MEMORY: '{"oom_priority": "high"}'}, "oom_priority of"),
        ({"cpu": 1}, {"neap.io/oom-priority": "1.5"}, "neap.io/oom-priority='1.5' is no whole number"),
        ({"cpu": 1}, {MEMORY: '{"rss_overuse_threshold": "-1"}'}, "is no number above 0"),
        ({"cpu": 1}, {CPU: '{"cpuset_pool": 3}'}, "is no name"),
        ({"cpu": 1}, {CPU: '{"cpuset_pool": "a"}', "neap.io/cpuset-pool": "b"}, "CPU pool asked twice and differently"),
        ({"neap.io/gpu-core": 30}, {}, "neap.io/gpu-core=30 needs neap.io/gpu-memory of at least 256 MiB, not 0"),
        ({"neap.io/gpu-memory": 1024}, {}, "compute must be at least 1 %"),
        ({"neap.io/gpu-core": 150, "neap.io/gpu-memory": 999}, {}, "must be 1..100 or a multiple of 100"),
        ({"neap.io/gpu-core": 200, "neap.io/gpu-memory": 999}, {}, "whole cards own all their memory"),
        ({"neap.io/gpu-core": 30, "neap.io/gpu-memory-ratio": 30}, {}, "card memory is asked in MiB"),
        ({"neap.io/gpu-core": 100, "nvidia.com/gpu": 1}, {}, "either shares of cards or a vendor's whole cards"),
        (
            {"neap.io/gpu-core": 100, "nvidia.com/mig-1g.5gb": 1},
            {},
            "nvidia.com/mig-1g.5gb of container main in one pod",
        ),
        ({"resource.katalyst.kubewharf.io/milligpu": "305"}, {}, "is no multiple of 10"),
        ({"neap.io/reclaimed-cpus": 1}, {}, "neap.io/reclaimed-cpus is no resource of neap (known: neap.io/gpu-core"),
        ({"cpu": 1, "neap.io/reclaimed-cpu": 1}, {}, "shared_cores may not ask for neap.io/reclaimed-cpu; only"),
        ({"neap.io/reclaimed-cpu": 1, "neap.io/reclaimed-millicpu": 7}, RECLAIMED, "one resource under two names"),
        ({"neap.io/reclaimed-cpu": 1, "neap.io/reclaimed-millicpu": 7}, {}, "one resource under two names"),
        ({"memory": "100m"}, RECLAIMED, "memory=100m is finer than one unit (bytes)"),
        ({"neap.io/reclaimed-cpu": "much"}, {}, "not a quantity: 'much'"),
        ({"cpu": 1}, {"neap.io/gang": "train", LEVEL: "shared_cores"}, "neap.io/gang-size is missing"),
        ({"neap.io/gpu-core": 100}, {"neap.io/device-affinity": '{"gpus": 2}'}, "2 GPUs, and the containers ask for 1"),
    ],
)
def test_what_cannot_be_meant_is_refused_where_it_is_written(resources: Any, annotations: Any, says: str) -> None:
    verdict = asked(a_pod(a_container(requests=resources, limits=None), annotations={**annotations}))
    assert says in verdict.why
    answer = json.loads(encode(verdict))["response"]
    assert answer["allowed"] is False
    assert answer["status"]["code"] == 422
    assert says in answer["status"]["message"]


def test_a_guest_asks_per_container_and_its_runtime_takes_nothing() -> None:
    whole = a_pod(annotations=RECLAIMED, resources={"requests": {"cpu": "1"}})
    assert "nothing is lent that way, ask per container" in asked(whole).why
    assert "spec.overhead" in asked(a_pod(annotations=RECLAIMED, overhead={"cpu": "50m"})).why


def test_wishes_are_refused_only_to_those_who_ask_neap_to_place_them() -> None:
    term = {"topologyKey": "zone", "labelSelector": {}, "namespaceSelector": {}}
    wish = {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    assert "namespaceSelector" in asked(a_pod(annotations=RECLAIMED, affinity=wish)).why
    own = a_container(requests={"cpu": "1"})
    assert asked(a_pod(own, annotations={LEVEL: "shared_cores"}, affinity=wish)).outcome == "passed"


@pytest.mark.parametrize(
    ("pod", "request_"),
    [
        (a_pod(a_container(requests={"cpu": "1"})), {}),
        (a_pod(annotations={"prometheus.io/scrape": "true"}, schedulerName="volcano"), {}),
        (a_pod(annotations={"a": "x" * (1 << 20)}), {}),
        (a_pod(annotations={LEVEL: "turbo"}), {"operation": "UPDATE"}),
        (None, {"operation": "DELETE"}),
        (a_pod(annotations={LEVEL: "turbo"}), {"namespace": "kube-system"}),
        (a_pod(annotations={LEVEL: "turbo"}), {"subResource": "ephemeralcontainers"}),
        (a_pod(annotations={LEVEL: "turbo"}), {"resource": {"group": "apps", "resource": "deployments"}}),
        (a_pod(annotations={LEVEL: "turbo", "kubernetes.io/config.mirror": "x"}), {}),
    ],
)
def test_all_others_pass_as_they_are(pod: Any, request_: Any) -> None:
    verdict = asked(pod, **request_)
    assert (verdict.outcome, verdict.patch, verdict.warnings) == ("passed", (), ())


def test_a_mebibyte_of_annotations_is_refused_to_those_who_speak_to_neap() -> None:
    assert "annotations have" in asked(a_pod(annotations={**RECLAIMED, "a": "x" * (1 << 20)})).why


def test_owners_that_own_each_other_or_nobody_make_no_difference() -> None:
    pod = a_pod(a_container(requests={"cpu": "1"}), annotations=RECLAIMED)
    owners = [
        {"kind": kind, "name": name, "uid": name, "apiVersion": "v1"} for kind, name in (("Pod", "cart-1"), ("A", "b"))
    ]
    owned = copy.deepcopy(pod)
    owned["metadata"]["ownerReferences"] = owners
    assert asked(owned).patch == asked(pod).patch != ()


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b"{}", b'{"request": 7}', b'{"request": {"uid": "u1", "operation": "CREATE", "resource": {"resource": "pods"}, "object": "\xff"}}', b"[" * 100_000],
)  # fmt: skip
def test_what_cannot_be_read_passes_and_says_so(body: bytes) -> None:
    answer = json.loads(encode(judge(body, SETTINGS, changes=True)))
    assert answer["kind"] == "AdmissionReview"
    assert answer["response"]["allowed"] is True
    assert "patch" not in answer["response"]
    assert "was not judged, it passes" in answer["response"]["warnings"][0]


def test_an_answer_is_as_the_api_server_wants_it() -> None:
    verdict = asked(a_pod(a_container(requests={"cpu": "1"}, limits={"cpu": "2"}), annotations=RECLAIMED), dryRun=True)
    answer = json.loads(encode(verdict))
    response = answer["response"]
    assert answer["apiVersion"] == "admission.k8s.io/v1"
    assert (response["uid"], response["allowed"], response["patchType"]) == ("u1", True, "JSONPatch")
    assert [step["path"] for step in json.loads(base64.b64decode(response["patch"]))] == [
        "/spec/containers/0/resources", "/metadata/annotations/neap.io~1asked", "/spec/schedulerName"
    ]  # fmt: skip
    assert response["warnings"] == [
        "neap: container main: limit cpu=2 is dropped; neap.io/reclaimed-millicpu has one number, the request cpu=1"
    ]
    assert verdict.dry_run


def test_validation_changes_nothing_and_judges_what_it_is_shown() -> None:
    guest = a_pod(a_container(requests={"cpu": "1"}), annotations=RECLAIMED)
    assert "reclaimed_cores needs Kubernetes QoS BestEffort" in asked(guest, changes=False).why
    assert asked(changed(guest), changes=False).outcome == "passed"


def test_real_manifests_pass_unchanged(shared: Any) -> None:
    seen = 0
    for path in sorted((shared / "data" / "k8s").rglob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            template = ((document or {}).get("spec") or {}).get("template")
            if isinstance(template, dict):
                seen += 1
                assert asked({"metadata": {}, **template}).outcome == "passed", path
    assert seen > 10


# -- pods whose owner has another size by now -------------------------------------------------------------------------

SETS = {"kind": "ReplicaSet", "name": "cart-7d9f", "uid": "rs", "controller": True}


def sized_owners(**to: int) -> Notes:
    """Deployment shop/cart, whose template says 1 core."""
    size = Note(version="v7", before={"main": {"requests": {"cpu": 1000}}}, to={"main": {"requests": to}})
    notes = Notes()
    text = json.dumps({"version": size.version, "from": size.before, "to": size.to})
    notes.see("Deployment", Metadata(name="cart", namespace="shop", annotations={NOTE: text}))
    return notes


def of_cart(cpu: str = "1", **more: Any) -> dict[str, Any]:
    pod = a_pod(a_container(requests={"cpu": cpu, "memory": "1Gi"}), **more)
    pod["metadata"] |= {"ownerReferences": [SETS], "labels": {"pod-template-hash": "7d9f"}}
    return pod


def test_a_pod_made_later_gets_the_size_of_its_owner_and_says_by_which_recommendation() -> None:
    pod = of_cart()
    verdict = judge(a_review(pod), SETTINGS, changes=True, note=sized_owners(cpu=750).of)
    after = applied(pod, verdict)
    assert after["spec"]["containers"][0]["resources"] == {"requests": {"cpu": "750m", "memory": "1Gi"}}
    assert after["metadata"]["annotations"] == {"neap.io/sized": "v7"}
    again = judge(a_review(after), SETTINGS, changes=True, note=sized_owners(cpu=750).of)
    assert (again.patch, again.why, again.fault) == ((), "", "")  # and it does not concern us otherwise


def test_whoever_writes_another_amount_into_the_template_has_the_last_word() -> None:
    notes = sized_owners(cpu=750)
    assert not judge(a_review(of_cart("2")), SETTINGS, changes=True, note=notes.of).patch
    assert not judge(a_review(a_pod(a_container(requests={"cpu": "1"}))), SETTINGS, changes=True, note=notes.of).patch
    assert not judge(a_review(of_cart(), namespace="other"), SETTINGS, changes=True, note=notes.of).patch
    notes.see("Deployment", Metadata(name="cart", namespace="shop"))
    assert not len(notes)
    assert not judge(a_review(of_cart()), SETTINGS, changes=True, note=notes.of).patch


def test_a_pod_of_neaps_is_sized_and_then_judged_like_any_other() -> None:
    pod = of_cart(annotations={LEVEL: "shared_cores"}, schedulerName="neap")
    after = applied(pod, judge(a_review(pod), SETTINGS, changes=True, note=sized_owners(cpu=750).of))
    assert after["spec"]["containers"][0]["resources"]["requests"]["cpu"] == "750m"
    assert after["metadata"]["annotations"] == {LEVEL: "shared_cores", "neap.io/sized": "v7"}
