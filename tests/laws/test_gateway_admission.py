"""Whatever the webhook is asked: an answer the API server takes, patches that hold, and amounts that stay what they were.

Pods are drawn as people write them, with wrong values among the right ones; then whole bodies of any JSON and any
bytes. A pod that the API server would have taken before the patch is one that it takes after it.
"""

from __future__ import annotations

import base64
import copy
import json
from typing import Any, Final

import msgspec
from hypothesis import assume, example, given
from hypothesis import strategies as st

from neap.common.model.qos import QosClass
from neap.common.model.resource import CPU, MEMORY, RECLAIMED_CPU, RECLAIMED_MEMORY, parse_amount
from neap.common.units import parse_quantity
from neap.gateway.core.door.admission import AdmissionSettings, Verdict, encode, judge
from neap.gateway.core.door.rules import is_told, read

SETTINGS: Final = AdmissionSettings()
LEVELS: Final = ("neap.io/qos-level", "katalyst.kubewharf.io/qos_level")
MEMORY_NOTE: Final = "katalyst.kubewharf.io/memory_enhancement"
CPU_NOTE: Final = "katalyst.kubewharf.io/cpu_enhancement"
CPUS: Final = st.sampled_from(("0", "1m", "100m", "0.5", "2", "1.5", "1k", 3, 0.25, "1e3"))
BYTES: Final = st.sampled_from(("0", "1", "1Gi", "1.5Gi", "128974848", "1e9", "129M", "1G", 4096))
WRONG: Final = st.sampled_from(("", "much", "-1", "1e99", "9Ei", "NaN", "0.1m", "1Zi", "٣", 10**30))
KINDS: Final = {
    CPU: CPUS,
    MEMORY: BYTES,
    "ephemeral-storage": BYTES,
    "nvidia.com/gpu": st.sampled_from(("1", 2)),
    RECLAIMED_CPU: CPUS,
    "neap.io/reclaimed-millicpu": st.sampled_from(("500", 1000, "2k")),
    RECLAIMED_MEMORY: BYTES,
    "resource.katalyst.kubewharf.io/reclaimed_millicpu": st.sampled_from(("4k", 100)),
    "katalyst.kubewharf.io/reclaimed_memory": BYTES,
    "resource.katalyst.kubewharf.io/milligpu": st.sampled_from(("300", 305, "1000")),
    "neap.io/gpu-core": st.sampled_from((30, "100", 150, "200")),
    "neap.io/gpu-memory": st.sampled_from(("2048", "8192Mi", 100)),
    "neap.io/typo": st.just("1"),
}
NOTES: Final = {
    LEVELS[0]: st.sampled_from((*QosClass, "turbo", "")),
    LEVELS[1]: st.sampled_from((*QosClass, "turbo", "")),
    MEMORY_NOTE: st.sampled_from(('{"numa_binding": "true"}', '{"numa_binding": true}', "{", "[]", '{"oom_priority": "x"}', "[" * 5000)),
    CPU_NOTE: st.sampled_from(('{"cpuset_pool": "batch"}', '{"cpuset_pool": {}}', '{"cpu_burst_policy": "static"}')),
    "neap.io/cpuset-pool": st.sampled_from(("batch", "other")),
    "neap.io/gang": st.just("train"),
    "neap.io/gang-size": st.sampled_from(("2", "many")),
    "neap.io/numa-nodes": st.sampled_from(("2", "x")),
    "neap.io/device-affinity": st.sampled_from(('{"gpus": 1}', "{")),
    "neap.io/oom-priority": st.sampled_from(("-5", "low")),
    "other.example/note": st.text(max_size=5),
}  # fmt: skip
NAMES: Final = st.sampled_from(("main", "side", "a-b"))


def amounts(kinds: Any) -> Any:
    return st.dictionaries(st.sampled_from(sorted(kinds)), st.none(), max_size=4).flatmap(
        lambda keys: st.fixed_dictionaries(
            {kind: kinds[kind] | (WRONG if kinds is WILD else st.nothing()) for kind in keys}
        )
    )


WILD: Final = {**KINDS}
TAME: Final = {kind: KINDS[kind] for kind in (CPU, MEMORY, "ephemeral-storage", "nvidia.com/gpu")}


def containers(kinds: Any, *, least: int) -> Any:
    resources = st.fixed_dictionaries({}, optional={"requests": amounts(kinds), "limits": amounts(kinds)})
    one = st.fixed_dictionaries(
        {"name": NAMES, "image": st.just("i")},
        optional={"resources": resources, "restartPolicy": st.just("Always")},
    )
    return st.lists(one, min_size=least, max_size=3, unique_by=lambda container: container["name"])


def pods(kinds: Any, notes: Any) -> Any:
    keys = (
        st.lists(st.sampled_from(sorted(NOTES)), max_size=4, unique=True) if notes is None else st.just(sorted(notes))
    )
    drawn = NOTES if notes is None else notes
    annotations = keys.flatmap(lambda some: st.fixed_dictionaries({key: drawn[key] for key in some}))
    spec = st.fixed_dictionaries(
        {"containers": containers(kinds, least=1)},
        optional={
            "initContainers": containers(kinds, least=0),
            "schedulerName": st.sampled_from(("default-scheduler", "neap", "katalyst-scheduler", "volcano")),
            "overhead": amounts(TAME) if notes is None else st.nothing(),
            "nodeName": st.just("n1") if notes is None else st.nothing(),
        } if notes is None else {"initContainers": containers(kinds, least=0)},
    )  # fmt: skip
    metadata = st.fixed_dictionaries(
        {"annotations": annotations}, optional={"name": st.just("cart-1"), "generateName": st.just("cart-")}
    )
    return st.fixed_dictionaries({"kind": st.just("Pod"), "metadata": metadata, "spec": spec})


GUESTS: Final = pods(TAME, {LEVELS[0]: st.just(QosClass.RECLAIMED.value)})
JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(("metadata", "spec", "containers", "resources", "requests", "annotations", LEVELS[0], CPU, "name")), inner, max_size=4
    ),
    max_leaves=12,
)  # fmt: skip


def asked(pod: Any, *, changes: bool = True) -> Verdict:
    request = {
        "uid": "u1", "operation": "CREATE", "namespace": "shop", "object": pod,
        "resource": {"group": "", "version": "v1", "resource": "pods"},
    }  # fmt: skip
    return judge(json.dumps({"request": request}).encode(), SETTINGS, changes=changes)


def patched(pod: Any, steps: Any) -> Any:
    """RFC 6902, as far as it is used: the place must be there, but for a member that is added."""
    result = copy.deepcopy(pod)
    for step in steps:
        assert set(step) == {"op", "path", "value"}
        assert step["op"] == "add"
        *way, last = [part.replace("~1", "/").replace("~0", "~") for part in step["path"].split("/")[1:]]
        place = result
        for part in way:
            place = place[int(part)] if isinstance(place, list) else place[part]
        assert isinstance(place, dict)
        place[last] = step["value"]
    return result


def holds_as_an_answer(verdict: Verdict) -> None:
    answer = json.loads(encode(verdict))
    response = answer["response"]
    assert (answer["kind"], type(response["uid"]), type(response["allowed"])) == ("AdmissionReview", str, bool)
    assert response["allowed"] or response["status"]["message"]
    assert response["allowed"] or "patch" not in response
    assert all(len(text) <= 256 for text in response.get("warnings", ()))
    if "patch" in response:
        assert json.loads(base64.b64decode(response["patch"])) == list(msgspec.to_builtins(verdict.patch))


def asked_for(pod: Any) -> dict[str, int]:
    """What a pod's containers ask for, in the model's units; owned and lent amounts of one kind count as one."""
    total: dict[str, int] = {}
    own = {CPU: RECLAIMED_CPU, MEMORY: RECLAIMED_MEMORY}
    for field in ("containers", "initContainers"):
        for container in pod["spec"].get(field, ()):
            resources = container.get("resources", {})
            for kind, text in {**resources.get("limits", {}), **resources.get("requests", {})}.items():
                name, amount = parse_amount(kind, str(text))
                total[own.get(name, name)] = total.get(own.get(name, name), 0) + amount
    return {kind: amount for kind, amount in total.items() if amount}


def would_the_api_server_take_it(pod: Any) -> bool:
    """Its rule for extended resources: integers, and a limit that is equal."""
    for field in ("containers", "initContainers"):
        for container in pod["spec"].get(field, ()):
            asks, limits = (container.get("resources", {}).get(side, {}) for side in ("requests", "limits"))
            for kind in {*asks, *limits}:
                if kind.startswith(("neap.io/", "nvidia.com/", "resource.katalyst", "katalyst")):
                    values = [parse_quantity(str(side[kind])) for side in (asks, limits) if kind in side]
                    if values[0].denominator != 1 or values[0] != values[-1] or kind not in limits:
                        return False
    return True


@given(pod=pods(WILD, None))
def test_any_pod_gets_an_answer_and_its_patch_holds_and_changes_nothing_the_second_time(pod: Any) -> None:
    verdict = asked(pod)
    holds_as_an_answer(verdict)
    assert verdict.fault == ""
    if verdict.why:
        assert verdict.patch == ()
        return
    after = patched(pod, verdict.patch)
    again = asked(after)
    assert (again.why, again.fault, again.patch) == ("", "", ())
    assert asked(after, changes=False).why == ""
    if after["spec"].get("schedulerName") == SETTINGS.scheduler:
        read(after, "shop")


@given(pod=GUESTS)
def test_a_guest_is_asked_for_exactly_what_it_asked_for_itself(pod: Any) -> None:
    verdict = asked(pod)
    assume(not verdict.why)
    after = patched(pod, verdict.patch)
    assert asked_for(after) == asked_for(pod)
    workload = read(after, "shop")
    assert workload.qos is QosClass.RECLAIMED
    assert not workload.requests.get(CPU)
    assert not workload.requests.get(MEMORY)


@given(pod=GUESTS)
def test_what_is_lent_is_written_as_the_api_server_wants_it(pod: Any) -> None:
    for container in (*pod["spec"]["containers"], *pod["spec"].get("initContainers", ())):
        for side in container.get("resources", {}).values():
            side.pop("nvidia.com/gpu", None)  # theirs: as people write it
    verdict = asked(pod)
    if not verdict.why:
        assert would_the_api_server_take_it(patched(pod, verdict.patch))


@given(pod=pods(TAME, {"other.example/note": st.text(max_size=5)}))
def test_pods_of_others_get_no_patch_and_no_word(pod: Any) -> None:
    assume(pod["spec"].get("schedulerName") not in (SETTINGS.scheduler, *SETTINGS.taken_over))
    assert not any(is_told(key) for key in pod["metadata"]["annotations"])
    verdict = asked(pod)
    assert (verdict.outcome, verdict.patch, verdict.warnings) == ("passed", (), ())


@given(document=JSON)
@example(document={"metadata": {"annotations": {LEVELS[0]: "reclaimed_cores"}}, "spec": {"containers": [{}]}})
def test_any_document_as_a_pod_is_answered(document: Any) -> None:
    for changes in (True, False):
        holds_as_an_answer(asked(document, changes=changes))


@given(body=st.binary(max_size=200) | JSON.map(lambda document: json.dumps(document).encode()))
def test_any_bytes_are_answered(body: bytes) -> None:
    verdict = judge(body, SETTINGS, changes=True)
    holds_as_an_answer(verdict)
    assert verdict.why == ""


@given(pod=pods(WILD, None), cut=st.integers(0, 400), junk=st.binary(max_size=3))
def test_a_torn_or_spoilt_body_is_answered(pod: Any, cut: int, junk: bytes) -> None:
    body = json.dumps(
        {"request": {"uid": "u1", "operation": "CREATE", "resource": {"resource": "pods"}, "object": pod}}
    )
    holds_as_an_answer(judge(body.encode()[:cut] + junk + body.encode()[cut:], SETTINGS, changes=True))


def test_amounts_that_cannot_be_read_are_no_fault_of_ours() -> None:
    for text in ("much", "1e99", 10**400, "", "-1"):
        pod = {"metadata": {"annotations": {LEVELS[0]: "reclaimed_cores"}}, "spec": {"containers": [{"name": "c", "resources": {"requests": {CPU: text}}}]}}  # fmt: skip
        verdict = asked(pod)
        assert verdict.fault == ""
        assert verdict.why
