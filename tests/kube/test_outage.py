"""The API server is killed while neap binds: everybody is bound in the end, once, and nobody is taken for gone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from neap.common.contract.catalogue import API, TRAIL, WORKLOAD
from neap.common.model.api import ApiRequest, ApiState
from neap.common.model.lifecycle import Ended, Submitted
from neap.virtual.history import stored
from tests.conftest import SOON
from tests.kube.server import need_assets
from tests.kube.stage import Cluster
from tests.kube.test_journey import running

pytestmark = [pytest.mark.kube, pytest.mark.slow, pytest.mark.timeout(900)]
PODS = 120


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    need_assets()
    async with Cluster(nodes=12, programs=()) as world:
        yield world


async def test_a_kill_in_the_middle_of_binding_doubles_and_loses_nothing(cluster: Cluster) -> None:
    await cluster.kubectl("apply", "-f", "-", said="\n---\n".join(a_pod(number) for number in range(PODS // 2)))
    await cluster.until(lambda: running(cluster, "default", PODS // 2), "the first half runs")
    before = lists(cluster)
    await cluster.kubectl("apply", "-f", "-", said="\n---\n".join(a_pod(number) for number in range(PODS // 2, PODS)))
    await cluster.server.restart(kill=True, away=3.0)
    await cluster.until(lambda: running(cluster, "default", PODS), "both halves run")

    events = [item.message for item in await stored(cluster.bus, WORKLOAD)]
    submitted = Counter(event.workload.uid for event in events if isinstance(event, Submitted))
    assert len(submitted) == PODS
    assert not [event for event in events if isinstance(event, Ended)], "nobody was taken for gone"
    bound = Counter(item.message.about.uid for item in await stored(cluster.bus, TRAIL) if item.message.what == "bound")
    assert bound == dict.fromkeys(submitted, 1)
    asked = await cluster.until(lambda: well(cluster), "the one endpoint is good again, as its next probe tells")
    [endpoint] = asked.endpoints
    assert asked.leader.leads
    assert endpoint.codes["ok"] > PODS
    assert {"pods", "nodes"} <= {kind.kind for kind in asked.kinds}
    kinds = lists(cluster)
    assert all(count - before.get(kind, 0) <= 2 for kind, count in kinds.items()), (before, kinds)


async def well(cluster: Cluster) -> ApiState | None:
    """What the gateway says of the API, once all is well there."""
    asked = await cluster.bus.request(API, ApiRequest(), timeout=SOON)
    [endpoint] = asked.endpoints
    return asked if endpoint.breaker == "closed" and endpoint.healthy else None


def a_pod(number: int) -> str:
    amounts = {"cpu": "100m", "memory": "64Mi"}
    container = {"name": "main", "image": "x", "resources": {"requests": amounts}}
    spec = {"schedulerName": "neap", "containers": [container]}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"p{number}"}, "spec": spec})


def lists(cluster: Cluster) -> dict[str, float]:
    """How often each kind was listed."""
    return {name: count for name, count in cluster.counts.items() if name.startswith("neap_gateway_lists_total")}
