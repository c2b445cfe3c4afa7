"""The promises of the Kube port, kept by the API server in memory and by a real one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest

from neap.common.errors import Conflict, Denied, Expired, PortError, Rejected, Throttled, Unavailable, Vanished
from neap.common.kube.kind import Kind
from neap.common.kube.objects import BUDGETS, DEPLOYMENTS, LEASES, NODES, PODS, Pod
from neap.common.kube.port import Change, PatchStyle, Watched
from tests.conftest import SOON
from tests.contract.kube_stages import (
    CONFIG_MAPS,
    WIDE_CONFIG_MAPS,
    WIDE_DEPLOYMENTS,
    WIDE_PODS,
    Stage,
    eventually,
    fresh,
    make_node,
    make_pod,
    patiently,
    pod_named,
    refused_or_done,
    run_pod,
)


@pytest.fixture
def stage(kube_stage: Stage) -> Stage:
    return kube_stage


async def map_named(stage: Stage, name: str, **texts: str) -> Any:
    return await stage.kube.create(CONFIG_MAPS, {"metadata": {"name": name}, "data": texts}, namespace=stage.space)


async def told(stream: AsyncIterator[Watched[Any]], many: int) -> list[tuple[str, str]]:
    """What the next changes were, and of whom; bookmarks passed by."""
    found: list[tuple[str, str]] = []
    async with asyncio.timeout(SOON):
        while len(found) < many:
            each = await anext(stream)
            if each.change is not Change.BOOKMARK:
                assert each.object is not None
                assert each.object.metadata.resource_version == each.version
                found.append((each.change.value, each.object.metadata.name))
    return found


# -- lists


async def test_all_pages_of_a_list_are_of_one_version(stage: Stage) -> None:
    for name in "abcde":
        await map_named(stage, name)
    first = await stage.kube.list(CONFIG_MAPS, namespace=stage.space, limit=2)
    await map_named(stage, "aa")
    await stage.kube.delete(CONFIG_MAPS, "d", namespace=stage.space)
    second = await stage.kube.list(CONFIG_MAPS, namespace=stage.space, limit=2, token=first.token)
    third = await stage.kube.list(CONFIG_MAPS, namespace=stage.space, limit=2, token=second.token)
    assert [each.metadata.name for page in (first, second, third) for each in page.items] == list("abcde")
    assert first.version == second.version == third.version
    assert not third.token
    anew = await stage.kube.list(CONFIG_MAPS, namespace=stage.space)
    assert [each.metadata.name for each in anew.items] == ["a", "aa", "b", "c", "e"]


async def test_a_list_of_nothing_is_an_empty_page_with_a_version(stage: Stage) -> None:
    page = await stage.kube.list(CONFIG_MAPS, namespace=stage.space)
    assert (page.items, page.token) == ((), "")
    assert int(page.version) > 0


async def test_a_cache_answers_when_any_version_will_do(stage: Stage) -> None:
    await map_named(stage, "a")

    async def cached() -> bool:
        page = await stage.kube.list(CONFIG_MAPS, namespace=stage.space, version="0")
        return [each.metadata.name for each in page.items] == ["a"]

    await eventually(cached)


async def test_a_field_selector_lists_and_watches_the_pods_of_one_node(stage: Stage) -> None:
    mine, other = await make_node(stage), await make_node(stage)
    one, two = await make_pod(stage), await make_pod(stage)
    only = f"spec.nodeName={mine.metadata.name}"
    before = await stage.kube.list(PODS, namespace=stage.space, only=only)
    assert before.items == ()
    async with stage.kube.watch(PODS, version=before.version, namespace=stage.space, only=only) as stream:
        await run_pod(stage, two, other.metadata.name)
        await run_pod(stage, one, mine.metadata.name)
        assert await told(stream, 2) == [("ADDED", one.metadata.name), ("MODIFIED", one.metadata.name)]
    after = await stage.kube.list(PODS, namespace=stage.space, only=only)
    assert [pod.metadata.name for pod in after.items] == [one.metadata.name]
    with pytest.raises(Rejected):
        await stage.kube.list(PODS, namespace=stage.space, only="spec.containers=x")


# -- watches


async def test_a_watch_goes_on_where_the_list_ended(stage: Stage) -> None:
    await map_named(stage, "a")
    page = await stage.kube.list(CONFIG_MAPS, namespace=stage.space)
    await map_named(stage, "b")
    await stage.kube.patch(CONFIG_MAPS, "a", {"data": {"x": "1"}}, namespace=stage.space)
    async with stage.kube.watch(CONFIG_MAPS, version=page.version, namespace=stage.space) as stream:
        assert await told(stream, 2) == [("ADDED", "b"), ("MODIFIED", "a")]
        await stage.kube.delete(CONFIG_MAPS, "b", namespace=stage.space)
        assert await told(stream, 1) == [("DELETED", "b")]


async def test_a_watch_resumes_from_any_version_it_was_told(stage: Stage) -> None:
    page = await stage.kube.list(CONFIG_MAPS, namespace=stage.space)
    for name in "abc":
        await map_named(stage, name)
    async with stage.kube.watch(CONFIG_MAPS, version=page.version, namespace=stage.space) as stream:
        async with asyncio.timeout(SOON):
            first = await anext(stream)
    async with stage.kube.watch(CONFIG_MAPS, version=first.version, namespace=stage.space) as stream:
        assert await told(stream, 2) == [("ADDED", "b"), ("ADDED", "c")]


async def test_every_watch_hears_the_same(stage: Stage) -> None:
    version = (await stage.kube.list(CONFIG_MAPS, namespace=stage.space)).version
    async with (
        stage.kube.watch(CONFIG_MAPS, version=version, namespace=stage.space) as one,
        stage.kube.watch(CONFIG_MAPS, version=version, namespace=stage.space) as two,
    ):
        for name in "abc":
            await map_named(stage, name)
        assert await told(one, 3) == await told(two, 3) == [("ADDED", name) for name in "abc"]


async def test_a_quiet_watch_says_how_far_it_came_and_ends_by_itself(stage: Stage) -> None:
    version = (await stage.kube.list(CONFIG_MAPS, namespace=stage.space)).version
    body = {"metadata": {"generateName": "elsewhere-"}}
    heard: list[Watched[Any]] = []
    for within in (4, 8, 16, 32):  # a server that is held up says nothing before it ends a short one
        async with stage.kube.watch(CONFIG_MAPS, version=version, namespace=stage.space, within=within) as stream:
            elsewhere = await stage.kube.create(CONFIG_MAPS, body, namespace="default")
            async with asyncio.timeout(within + SOON):
                heard = [each async for each in stream]
        if heard and int(heard[-1].version) >= int(elsewhere.metadata.resource_version):
            break
    assert [(each.change, each.object) for each in heard] == [(Change.BOOKMARK, None)] * len(heard)
    assert int(heard[-1].version) >= int(elsewhere.metadata.resource_version)
    await map_named(stage, "b")
    async with stage.kube.watch(CONFIG_MAPS, version=heard[-1].version, namespace=stage.space) as stream:
        assert await told(stream, 1) == [("ADDED", "b")]


async def test_a_past_that_is_forgotten_is_expired(stage: Stage) -> None:
    for name in "abc":
        await map_named(stage, name)
    page = await stage.kube.list(CONFIG_MAPS, namespace=stage.space, limit=1)
    await map_named(stage, "d")
    await stage.forget()

    async def go_on() -> None:
        with pytest.raises(Expired):
            await stage.kube.list(CONFIG_MAPS, namespace=stage.space, limit=1, token=page.token)

    async def resume() -> None:
        with pytest.raises(Expired):
            async with (
                stage.kube.watch(CONFIG_MAPS, version=page.version, namespace=stage.space) as stream,
                asyncio.timeout(SOON),
            ):
                await anext(stream)

    await patiently(go_on)
    await patiently(resume)
    anew = await patiently(lambda: stage.kube.list(CONFIG_MAPS, namespace=stage.space))
    assert [each.metadata.name for each in anew.items] == list("abcd")


async def test_a_watch_that_breaks_off_says_so_and_nothing_is_lost(stage: Stage) -> None:
    version = (await stage.kube.list(CONFIG_MAPS, namespace=stage.space)).version
    async with stage.kube.watch(CONFIG_MAPS, version=version, namespace=stage.space) as stream:
        await map_named(stage, "a")
        assert await told(stream, 1) == [("ADDED", "a")]
        await stage.go()
        with pytest.raises(Unavailable):
            async with asyncio.timeout(SOON):
                await anext(stream)
    assert not await stage.kube.is_ready()
    with pytest.raises(Unavailable):
        await stage.kube.list(CONFIG_MAPS, namespace=stage.space)
    await stage.come()
    await eventually(stage.kube.is_ready)
    found = await patiently(lambda: stage.kube.list(CONFIG_MAPS, namespace=stage.space))
    assert [each.metadata.name for each in found.items] == ["a"]


# -- objects


async def test_a_name_is_given_once(stage: Stage) -> None:
    await map_named(stage, "a")
    with pytest.raises(Conflict):
        await map_named(stage, "a")
    with pytest.raises(Vanished):
        await stage.kube.get(CONFIG_MAPS, "b", namespace=stage.space)
    with pytest.raises(Vanished):
        await stage.kube.create(CONFIG_MAPS, {"metadata": {"name": "a"}}, namespace="nowhere")
    with pytest.raises(Rejected):
        await map_named(stage, "No Name")


async def test_a_generated_name_is_new_every_time(stage: Stage) -> None:
    body = {"metadata": {"generateName": "job-"}}
    made = [await stage.kube.create(CONFIG_MAPS, body, namespace=stage.space) for _ in range(3)]
    names = {each.metadata.name for each in made}
    assert len(names) == len({each.metadata.uid for each in made}) == 3
    assert all(name.startswith("job-") and len(name) > len("job-") for name in names)


async def test_a_rehearsal_stores_nothing(stage: Stage) -> None:
    await stage.kube.create(PODS, pod_named("a"), namespace=stage.space, rehearse=True)
    with pytest.raises(Vanished):
        await stage.kube.get(PODS, "a", namespace=stage.space)
    with pytest.raises(Rejected):
        await stage.kube.create(PODS, {"metadata": {"name": "a"}, "spec": {}}, namespace=stage.space, rehearse=True)


async def test_who_writes_what_he_has_not_seen_is_refused(stage: Stage) -> None:
    seen = await map_named(stage, "a")
    body = {"metadata": {"name": "a", "resourceVersion": seen.metadata.resource_version}, "data": {"x": "1"}}
    await stage.kube.replace(CONFIG_MAPS, "a", body, namespace=stage.space)
    with pytest.raises(Conflict):
        await stage.kube.replace(CONFIG_MAPS, "a", body, namespace=stage.space)
    with pytest.raises(Conflict):
        await stage.kube.patch(CONFIG_MAPS, "a", body, namespace=stage.space)
    with pytest.raises(Conflict):
        await stage.kube.patch(CONFIG_MAPS, "a", {"metadata": {"uid": "another"}}, namespace=stage.space)
    with pytest.raises(Vanished):
        await stage.kube.patch(CONFIG_MAPS, "b", {}, namespace=stage.space)


async def test_a_write_that_changes_nothing_is_no_new_version(stage: Stage) -> None:
    seen = await map_named(stage, "a", x="1")
    same = await stage.kube.patch(CONFIG_MAPS, "a", {"data": {"x": "1"}}, namespace=stage.space)
    assert same.metadata.resource_version == seen.metadata.resource_version


async def test_only_the_one_that_is_meant_is_deleted(stage: Stage) -> None:
    seen = await map_named(stage, "a")
    with pytest.raises(Conflict):
        await stage.kube.delete(CONFIG_MAPS, "a", namespace=stage.space, uid="another")
    await stage.kube.delete(CONFIG_MAPS, "a", namespace=stage.space, uid=seen.metadata.uid)
    with pytest.raises(Vanished):
        await stage.kube.delete(CONFIG_MAPS, "a", namespace=stage.space)


async def test_a_finalizer_holds_an_object_until_it_is_taken_off(stage: Stage) -> None:
    body = {"metadata": {"name": "a", "finalizers": ["neap.io/test"]}}
    await stage.kube.create(CONFIG_MAPS, body, namespace=stage.space)
    await stage.kube.delete(CONFIG_MAPS, "a", namespace=stage.space)
    held = await stage.kube.get(CONFIG_MAPS, "a", namespace=stage.space)
    assert held.metadata.deletion_timestamp
    await stage.kube.patch(CONFIG_MAPS, "a", {"metadata": {"finalizers": None}}, namespace=stage.space)
    with pytest.raises(Vanished):
        await stage.kube.get(CONFIG_MAPS, "a", namespace=stage.space)


async def test_text_of_any_script_and_size_comes_back_whole(stage: Stage) -> None:
    text = '日本語 ✓ \u2028 \\ " \n 🦆' * 4_000  # 130 kB
    version = (await stage.kube.list(PODS, namespace=stage.space)).version
    await make_pod(stage, "a", annotations={"neap.io/text": text})
    async with stage.kube.watch(PODS, version=version, namespace=stage.space) as stream, asyncio.timeout(SOON):
        seen = (await anext(stream)).object
    (listed,) = (await stage.kube.list(PODS, namespace=stage.space)).items
    for pod in (seen, listed, await stage.kube.get(PODS, "a", namespace=stage.space)):
        assert pod is not None
        assert pod.metadata.annotations == {"neap.io/text": text}
    with pytest.raises(Rejected):
        await make_pod(stage, "b", annotations={"neap.io/text": "x" * 2**20})


async def test_an_object_of_a_megabyte_is_one_line_of_a_watch(stage: Stage) -> None:
    version = (await stage.kube.list(CONFIG_MAPS, namespace=stage.space)).version
    text = '"' * 500_000 + "\u2028" * 100_000  # twice as long and more in JSON
    await map_named(stage, "a", text=text)
    async with stage.kube.watch(WIDE_CONFIG_MAPS, version=version, namespace=stage.space) as stream:
        async with asyncio.timeout(SOON):
            seen = (await anext(stream)).object
    assert seen is not None
    assert seen["data"] == {"text": text}


# -- patches


async def test_a_merge_patch_changes_what_it_names(stage: Stage) -> None:
    await map_named(stage, "a", x="1", y="2")
    await stage.kube.patch(CONFIG_MAPS, "a", {"data": {"x": None, "z": "3"}}, namespace=stage.space)
    assert (await stage.kube.get(WIDE_CONFIG_MAPS, "a", namespace=stage.space))["data"] == {"y": "2", "z": "3"}


async def test_a_json_patch_is_done_whole_or_not_at_all(stage: Stage) -> None:
    await stage.kube.create(CONFIG_MAPS, {"metadata": {"name": "a", "annotations": {"x": "1"}}}, namespace=stage.space)
    steps = [
        {"op": "add", "path": "/metadata/annotations/neap.io~1y", "value": "2"},
        {"op": "test", "path": "/metadata/annotations/x", "value": "1"},
        {"op": "remove", "path": "/metadata/annotations/x"},
    ]
    patched = await stage.kube.patch(CONFIG_MAPS, "a", steps, namespace=stage.space, style=PatchStyle.JSON)
    assert patched.metadata.annotations == {"neap.io/y": "2"}
    with pytest.raises(Rejected):
        await stage.kube.patch(CONFIG_MAPS, "a", steps, namespace=stage.space, style=PatchStyle.JSON)
    assert await stage.kube.get(CONFIG_MAPS, "a", namespace=stage.space) == patched


async def test_a_strategic_patch_merges_lists_by_their_key(stage: Stage) -> None:
    name = (await make_node(stage)).metadata.name
    for kind, status in (("Ready", "True"), ("MemoryPressure", "False"), ("Ready", "Unknown")):
        patch = {"status": {"conditions": [{"type": kind, "status": status}]}}
        await stage.kube.patch(NODES, name, patch, subresource="status", style=PatchStyle.STRATEGIC)
    conditions = (await stage.kube.get(NODES, name)).status.conditions or ()
    assert {each.type: each.status for each in conditions} == {"Ready": "Unknown", "MemoryPressure": "False"}


async def test_status_is_written_through_its_own_door(stage: Stage) -> None:
    name = (await make_node(stage)).metadata.name
    both: dict[str, Any] = {"spec": {"unschedulable": True}, "status": {"capacity": {"neap.io/x": "5"}}}
    node = await stage.kube.patch(NODES, name, both)
    assert (node.spec.unschedulable, node.status.capacity) == (True, None)
    both["spec"]["unschedulable"] = False
    node = await stage.kube.patch(NODES, name, both, subresource="status")
    assert (node.spec.unschedulable, node.status.capacity) == (True, {"neap.io/x": "5"})


async def test_what_neap_does_not_read_stays_as_it_is(stage: Stage) -> None:
    body = pod_named("a")
    body["spec"]["containers"][0]["env"] = [{"name": "X", "value": "1"}]
    body["spec"] |= {"hostname": "duck", "volumes": [{"name": "v", "emptyDir": {}}]}
    before = await stage.kube.create(WIDE_PODS, body, namespace=stage.space)
    await stage.kube.patch(PODS, "a", {"metadata": {"labels": {"neap.io/x": "y"}}}, namespace=stage.space)
    after = await stage.kube.get(WIDE_PODS, "a", namespace=stage.space)
    assert after["spec"] == before["spec"]
    assert after["metadata"]["labels"] == {"neap.io/x": "y"}


# -- server-side apply


async def test_what_a_manager_leaves_out_of_an_apply_goes(stage: Stage) -> None:
    await map_named(stage, "a", theirs="1")
    for texts in ({"x": "1", "y": "2"}, {"y": "3"}):
        await stage.kube.apply(CONFIG_MAPS, "a", {"data": texts}, manager="one", namespace=stage.space)
    found = await stage.kube.get(WIDE_CONFIG_MAPS, "a", namespace=stage.space)
    assert found["data"] == {"theirs": "1", "y": "3"}


async def test_an_apply_makes_what_is_not_there_and_repeats_for_nothing(stage: Stage) -> None:
    body = {"data": {"x": "1"}}
    made = await stage.kube.apply(CONFIG_MAPS, "a", body, manager="one", namespace=stage.space)
    again = await stage.kube.apply(CONFIG_MAPS, "a", body, manager="one", namespace=stage.space)
    assert again.metadata.resource_version == made.metadata.resource_version
    await stage.kube.apply(CONFIG_MAPS, "a", {}, manager="one", namespace=stage.space)
    assert not (await stage.kube.get(WIDE_CONFIG_MAPS, "a", namespace=stage.space)).get("data")


async def test_a_field_that_is_anothers_is_a_conflict_unless_it_is_forced(stage: Stage) -> None:
    async def apply(manager: str, value: str, *, force: bool = False) -> None:
        body = {"data": {"x": value}}
        await stage.kube.apply(CONFIG_MAPS, "a", body, manager=manager, namespace=stage.space, force=force)

    await apply("one", "1")
    await apply("two", "1")  # the same value: both own it
    with pytest.raises(Conflict):
        await apply("two", "2")
    await apply("two", "2", force=True)
    await stage.kube.apply(CONFIG_MAPS, "a", {}, manager="one", namespace=stage.space)  # it is not his any more
    assert (await stage.kube.get(WIDE_CONFIG_MAPS, "a", namespace=stage.space))["data"] == {"x": "2"}
    await stage.kube.patch(CONFIG_MAPS, "a", {"data": {"x": "3"}}, namespace=stage.space)  # whoever patches, owns
    with pytest.raises(Conflict):
        await apply("two", "4")


async def test_conditions_of_two_managers_stand_side_by_side(stage: Stage) -> None:
    name = (await make_node(stage)).metadata.name

    async def apply(manager: str, *kinds: str) -> set[str]:
        body = {"status": {"conditions": [{"type": kind, "status": "True"} for kind in kinds]}}
        node = await stage.kube.apply(NODES, name, body, manager=manager, subresource="status")
        return {each.type for each in node.status.conditions or ()}

    assert await apply("one", "A", "B") == {"A", "B"}
    assert await apply("two", "C") == {"A", "B", "C"}
    assert await apply("one", "B") == {"B", "C"}


async def test_taints_are_one_value_and_belong_to_one(stage: Stage) -> None:
    name = (await make_node(stage)).metadata.name
    taint = {"key": "neap.io/a", "effect": "NoSchedule"}
    await stage.kube.apply(NODES, name, {"spec": {"taints": [taint]}}, manager="one")
    with pytest.raises(Conflict):
        await stage.kube.apply(NODES, name, {"spec": {"taints": [{**taint, "key": "neap.io/b"}]}}, manager="two")


# -- pods


async def test_a_pod_is_bound_once(stage: Stage) -> None:
    nodes = [(await make_node(stage)).metadata.name for _ in range(4)]
    pod = await make_pod(stage)
    bind = [stage.kube.bind(stage.space, pod.metadata.name, uid=pod.metadata.uid, node=node) for node in nodes]
    done = await asyncio.gather(*map(refused_or_done, bind))
    assert sum(done) == 1
    found = await stage.kube.get(PODS, pod.metadata.name, namespace=stage.space)
    assert found.spec.node_name == nodes[done.index(True)]
    assert [(each.type, each.status) for each in found.status.conditions or ()] == [("PodScheduled", "True")]


async def test_a_binding_means_the_pod_that_was_seen(stage: Stage) -> None:
    node, pod = (await make_node(stage)).metadata.name, await make_pod(stage)
    with pytest.raises(Conflict):
        await stage.kube.bind(stage.space, pod.metadata.name, uid="another", node=node)
    with pytest.raises(Vanished):
        await stage.kube.bind(stage.space, "nobody", uid=pod.metadata.uid, node=node)


async def test_a_pod_that_waits_goes_at_once_and_a_bound_one_in_its_time(stage: Stage) -> None:
    node, waits, runs = (await make_node(stage)).metadata.name, await make_pod(stage), await make_pod(stage)
    runs = await run_pod(stage, runs, node)
    name = runs.metadata.name
    for pod in (waits, runs):
        await stage.kube.delete(PODS, pod.metadata.name, namespace=stage.space)
    left = await stage.kube.list(PODS, namespace=stage.space)
    assert [(pod.metadata.name, bool(pod.metadata.deletion_timestamp)) for pod in left.items] == [(name, True)]
    async with stage.kube.watch(PODS, version=left.version, namespace=stage.space) as stream:
        await stage.kube.delete(PODS, name, namespace=stage.space, grace=0)  # as its kubelet says at the end
        heard = await told(stream, 1)
        while heard[-1][0] == "MODIFIED":
            heard += await told(stream, 1)
    assert heard[-1] == ("DELETED", name)


async def test_a_pods_wish_changes_only_through_resize(stage: Stage) -> None:
    pod = await run_pod(stage, await make_pod(stage), (await make_node(stage)).metadata.name)
    name, wish = pod.metadata.name, {"requests": {"cpu": "500m", "memory": "1Gi"}}
    patch = {"spec": {"containers": [{"name": "main", "resources": wish}]}}
    with pytest.raises(Rejected):
        await stage.kube.patch(PODS, name, patch, namespace=stage.space, style=PatchStyle.STRATEGIC)
    found = await stage.kube.patch(
        PODS, name, patch, namespace=stage.space, subresource="resize", style=PatchStyle.STRATEGIC
    )
    assert found.spec.containers[0].resources.requests == wish["requests"]
    assert found.spec.containers[0].image == "none"
    assert found.metadata.uid == pod.metadata.uid
    assert found.metadata.generation == pod.metadata.generation + 1


async def make_deployment(stage: Stage) -> str:
    """Two containers, and more than neap reads."""
    labels = {"app": fresh("app")}
    amounts = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "2Gi"}}
    env = [{"name": "A", "value": "b"}]
    containers = [{"name": name, "image": "none", "resources": amounts, "env": env} for name in ("main", "side")]
    template = {"metadata": {"labels": labels}, "spec": {"containers": containers}}
    body = {
        "metadata": {"name": labels["app"]},
        "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": template},
    }
    await stage.kube.create(WIDE_DEPLOYMENTS, body, namespace=stage.space)
    return labels["app"]


async def test_one_container_of_a_template_is_patched_and_nothing_else_of_it(stage: Stage) -> None:
    name = await make_deployment(stage)
    before = await stage.kube.get(WIDE_DEPLOYMENTS, name, namespace=stage.space)
    patch = {
        "spec": {"template": {"spec": {"containers": [{"name": "side", "resources": {"requests": {"cpu": "250m"}}}]}}}
    }
    await stage.kube.patch(DEPLOYMENTS, name, patch, namespace=stage.space, style=PatchStyle.STRATEGIC)
    after = await stage.kube.get(WIDE_DEPLOYMENTS, name, namespace=stage.space)
    assert after["spec"]["template"]["spec"]["containers"][1]["resources"]["requests"].pop("cpu") == "250m"
    assert before["spec"]["template"]["spec"]["containers"][1]["resources"]["requests"].pop("cpu") == "1"
    assert after["spec"] == before["spec"]
    assert after["metadata"]["generation"] == before["metadata"]["generation"] + 1


async def test_replicas_are_scaled_by_their_subresource_which_knows_whom_it_means(stage: Stage) -> None:
    name = await make_deployment(stage)
    uid = (await stage.kube.get(DEPLOYMENTS, name, namespace=stage.space)).metadata.uid
    scaled = {"metadata": {"uid": uid}, "spec": {"replicas": 5}}
    found = await stage.kube.patch(DEPLOYMENTS, name, scaled, namespace=stage.space, subresource="scale")
    assert found.spec.replicas == 5
    assert (await stage.kube.get(DEPLOYMENTS, name, namespace=stage.space)).spec.replicas == 5
    other = {"metadata": {"uid": "somebody-else"}, "spec": {"replicas": 7}}
    with pytest.raises(Conflict):
        await stage.kube.patch(DEPLOYMENTS, name, other, namespace=stage.space, subresource="scale")


# -- evictions


async def make_budget(stage: Stage, allowed: int, *, counted: bool = True) -> str:
    """A budget for the pods with app=a, as its controller would have counted it."""
    name = fresh("budget")
    spec = {"selector": {"matchLabels": {"app": "a"}}, "minAvailable": 1}
    made = await stage.kube.create(BUDGETS, {"metadata": {"name": name}, "spec": spec}, namespace=stage.space)
    status = {
        "disruptionsAllowed": allowed, "currentHealthy": 1 + allowed, "desiredHealthy": 1, "expectedPods": 1 + allowed,
        "observedGeneration": made.metadata.generation if counted else 0,
    }  # fmt: skip
    await stage.kube.patch(BUDGETS, name, {"status": status}, namespace=stage.space, subresource="status")
    return name


async def guarded(stage: Stage) -> Pod:
    pod = await make_pod(stage, labels={"app": "a"})
    return await run_pod(stage, pod, (await make_node(stage)).metadata.name)


async def evict(stage: Stage, pod: Pod, **options: Any) -> None:
    await stage.kube.evict(stage.space, pod.metadata.name, **{"uid": pod.metadata.uid, **options})


async def goes(stage: Stage, pod: Pod) -> bool:
    return (
        await stage.kube.get(PODS, pod.metadata.name, namespace=stage.space)
    ).metadata.deletion_timestamp is not None


async def test_an_eviction_gives_the_pod_its_grace(stage: Stage) -> None:
    pod = await guarded(stage)
    with pytest.raises(Conflict):
        await evict(stage, pod, uid="another")
    assert not await goes(stage, pod)
    await evict(stage, pod, grace=7)
    assert await goes(stage, pod)
    with pytest.raises(Vanished):
        await stage.kube.evict(stage.space, "nobody", uid=pod.metadata.uid)


async def test_a_budget_lets_as_many_go_as_it_allows(stage: Stage) -> None:
    name = await make_budget(stage, 1)
    one, two = await guarded(stage), await guarded(stage)
    await evict(stage, one)
    with pytest.raises(Throttled):
        await evict(stage, two)
    assert (await goes(stage, one), await goes(stage, two)) == (True, False)
    assert (await stage.kube.get(BUDGETS, name, namespace=stage.space)).status.disruptions_allowed == 0


async def test_a_budget_that_is_being_counted_says_when_to_come_again(stage: Stage) -> None:
    await make_budget(stage, 1, counted=False)
    pod = await guarded(stage)
    with pytest.raises(Throttled) as refused:
        await evict(stage, pod)
    assert refused.value.after > 0
    assert not await goes(stage, pod)


async def test_a_pod_with_several_budgets_cannot_be_evicted(stage: Stage) -> None:
    await make_budget(stage, 1), await make_budget(stage, 1)
    pod = await guarded(stage)
    with pytest.raises(Rejected):
        await evict(stage, pod)
    assert not await goes(stage, pod)


async def test_a_pod_that_waits_needs_no_budget(stage: Stage) -> None:
    await make_budget(stage, 0)
    pod = await make_pod(stage, labels={"app": "a"})
    await evict(stage, pod)
    with pytest.raises(Vanished):
        await stage.kube.get(PODS, pod.metadata.name, namespace=stage.space)


# -- leases, rights


async def test_of_two_who_take_a_lease_one_gets_it(stage: Stage) -> None:
    spec = {"holderIdentity": "", "leaseDurationSeconds": 15, "leaseTransitions": 0}
    seen = await stage.kube.create(LEASES, {"metadata": {"name": "leader"}, "spec": spec}, namespace=stage.space)

    async def take(who: str) -> bool:
        metadata = {"name": "leader", "resourceVersion": seen.metadata.resource_version}
        mine = {**spec, "holderIdentity": who, "renewTime": "2026-01-02T03:04:05.123456Z", "leaseTransitions": 1}
        body = {"metadata": metadata, "spec": mine}
        return await refused_or_done(stage.kube.replace(LEASES, "leader", body, namespace=stage.space))

    names = [f"n{number}" for number in range(8)]
    took = await asyncio.gather(*map(take, names))
    assert sum(took) == 1
    lease = await stage.kube.get(LEASES, "leader", namespace=stage.space)
    assert lease.spec.holder_identity == names[took.index(True)]
    assert lease.spec.renew_time == "2026-01-02T03:04:05.123456Z"
    with pytest.raises(Rejected):  # a lease is never taken blindly
        await stage.kube.replace(
            LEASES, "leader", {"metadata": {"name": "leader"}, "spec": spec}, namespace=stage.space
        )


async def test_who_has_no_right_is_told_so(stage: Stage) -> None:
    pod = await make_pod(stage)
    name, uid = pod.metadata.name, pod.metadata.uid
    for asked in (
        stage.stranger.list(PODS),
        stage.stranger.get(PODS, name, namespace=stage.space),
        stage.stranger.create(PODS, pod_named("x"), namespace=stage.space),
        stage.stranger.delete(PODS, name, namespace=stage.space),
        stage.stranger.bind(stage.space, name, uid=uid, node="n"),
        stage.stranger.evict(stage.space, name, uid=uid),
        stage.stranger.apply(PODS, name, {}, manager="x", namespace=stage.space),
    ):
        with pytest.raises(Denied):
            await asked
    with pytest.raises(Denied):
        async with stage.stranger.watch(PODS, version="1") as stream, asyncio.timeout(SOON):
            await anext(stream)


async def test_a_kind_nobody_installed_is_not_there(stage: Stage) -> None:
    ghosts: Kind[dict[str, Any]] = Kind("neap.io", "v1alpha1", "ghosts", "Ghost", dict[str, Any])
    with suppress(AttributeError):
        stage.cluster.absent.add(str(ghosts))  # type: ignore[attr-defined]  # in memory every kind is there
    with pytest.raises(Vanished):
        await stage.kube.list(ghosts)
    with pytest.raises(PortError):
        await stage.kube.create(ghosts, {"metadata": {"name": "a"}}, namespace=stage.space)
