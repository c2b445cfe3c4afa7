"""The gateway's web server before a real API server: webhooks by URL, metrics by aggregation, and nobody there.

The API server's own self-signed certificate, which is for 127.0.0.1 and localhost, serves the webhooks too; behind the
aggregation one for the service's name is needed.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from neap.common.errors import PortError
from neap.common.model.profile import ServiceProfile
from neap.common.model.resource import RECLAIMED_CPU, RECLAIMED_MEMORY
from neap.common.model.usage import ContainerUsage, NodeUsage
from neap.common.testing.apiserver import ApiServer
from neap.gateway.core.door.admission import AdmissionSettings
from neap.gateway.core.door.metrics_api import answer
from neap.gateway.core.door.metrics_store import MetricSettings, MetricStore
from neap.gateway.core.door.reply import Reply
from neap.gateway.core.door.rules import read
from neap.gateway.shell.web import Answers, DoorSettings, Opened, door
from tests.conftest import HANG, SOON
from tests.kube.server import need_assets
from tests.unit.test_gateway_web import certificate

pytestmark = pytest.mark.kube

NOW = 1_800_000_000.0
GUEST = {"neap.io/qos-level": "reclaimed_cores"}
GROUPS = {"custom.metrics.k8s.io": "v1beta2", "external.metrics.k8s.io": "v1beta1"}


@asynccontextmanager
async def served(used: Path, store: MetricStore, port: int = 0) -> AsyncIterator[int]:
    def metrics(path: str, query: Mapping[str, str], accept: str) -> Reply:
        return answer(path, query, store, NOW, accept)

    key = str(used.with_suffix(".key"))
    settings = DoorSettings(bind="127.0.0.1", port=port, certificate=str(used), key=key)
    what = Answers(admission=AdmissionSettings(), metrics=metrics, healthy=list)
    async with door(settings, what)() as said:
        opened = await anext(said)
        assert isinstance(opened, Opened)
        yield opened.port


async def apply(server: ApiServer, *objects: Mapping[str, Any], dry: bool = False) -> None:
    listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    more = ("--dry-run=server",) if dry else ()
    await server.kubectl("apply", "-f", "-", *more, said=json.dumps(listed))


async def pod_of(server: ApiServer, name: str, namespace: str = "shop") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(await server.kubectl("get", "pod", name, "-n", namespace, "-o", "json"))
    return found


def a_pod(
    name: str, requests: Any = None, annotations: Any = None, namespace: str = "shop", **spec: Any
) -> dict[str, Any]:
    container = {"name": "main", "image": "i", "resources": requests or {}}
    metadata = {"name": name, "namespace": namespace, "annotations": annotations or {}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container], **spec}}


def webhooks(server: ApiServer, port: int) -> list[dict[str, Any]]:
    trust = base64.b64encode(Path(server.ca).read_bytes()).decode()
    rules = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]
    common = {
        "rules": rules, "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Ignore",
        "timeoutSeconds": 10,
    }  # fmt: skip
    return [
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": f"{kind}WebhookConfiguration",
            "metadata": {"name": "neap"},
            "webhooks": [
                {"name": f"{path}.neap.io", **common, **more,
                 "clientConfig": {"url": f"https://127.0.0.1:{port}/{path}", "caBundle": trust}}
            ],
        }
        for kind, path, more in (
            ("Mutating", "mutate", {"reinvocationPolicy": "IfNeeded"}),
            ("Validating", "validate", {}),
        )
    ]  # fmt: skip


async def until_asked(server: ApiServer) -> None:
    """The API server hears of a webhook a moment later; its first word tells that it has."""
    async with asyncio.timeout(SOON):
        while True:
            try:
                await apply(server, a_pod("nobody", annotations={"neap.io/qos-level": "turbo"}), dry=True)
            except PortError as error:
                assert "is no QoS level" in str(error)  # noqa: PT017
                return
            await asyncio.sleep(0.05)


@pytest.mark.timeout(HANG)
async def test_pods_are_lent_what_they_asked_for_and_pass_when_nobody_answers() -> None:
    need_assets()
    async with ApiServer() as server:
        store = MetricStore(MetricSettings())
        await apply(server, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
        async with served(Path(server.ca), store) as port:
            await apply(server, *webhooks(server, port))
            await until_asked(server)
            amounts = {"requests": {"cpu": "250m", "memory": "1.5Gi"}, "limits": {"cpu": "2", "memory": "1.5Gi"}}
            await apply(
                server,
                a_pod("guest", amounts, GUEST, initContainers=[{"name": "first", "image": "i", "resources": amounts}]),
                a_pod("half", {"requests": {"neap.io/reclaimed-cpu": "500m"}}, GUEST),
                a_pod("theirs", {"requests": {"katalyst.kubewharf.io/reclaimed_millicpu": "4k"}}, GUEST),
                a_pod("plain", {"requests": {"cpu": "1"}}),
            )
            guest = await pod_of(server, "guest")
            lent = {"neap.io/reclaimed-millicpu": "250", "neap.io/reclaimed-memory": "1536Mi"}
            for container in (*guest["spec"]["containers"], *guest["spec"]["initContainers"]):
                assert container["resources"] == {"requests": lent, "limits": lent}
            assert guest["status"]["qosClass"] == "BestEffort"
            assert guest["spec"]["schedulerName"] == "neap"
            assert read(guest, "shop").requests == {RECLAIMED_CPU: 250, RECLAIMED_MEMORY: 3 << 29}
            assert read(await pod_of(server, "half"), "shop").requests == {RECLAIMED_CPU: 500}
            assert read(await pod_of(server, "theirs"), "shop").requests == {RECLAIMED_CPU: 4000}
            plain = await pod_of(server, "plain")
            assert plain["spec"]["schedulerName"] == "default-scheduler"
            assert plain["spec"]["containers"][0]["resources"] == {"requests": {"cpu": "1"}}
            for flaw, pod in (
                ("neap.io/gpu-core=30 needs neap.io/gpu-memory", a_pod("x", {"limits": {"neap.io/gpu-core": "30"}})),
                ("annotations have", a_pod("x", None, {**GUEST, "big": "x" * (1 << 20)})),
                (
                    "asks cpu or memory for the whole pod",
                    a_pod("x", None, GUEST, resources={"limits": {"cpu": "1", "memory": "1G"}}),
                ),
            ):
                with pytest.raises(PortError, match=flaw):
                    await server.kubectl("create", "-f", "-", said=json.dumps(pod))
            owners = [{"apiVersion": "v1", "kind": "Pod", "name": name, "uid": name} for name in ("ring", "other")]
            ring = a_pod("ring", amounts, GUEST)
            ring["metadata"]["ownerReferences"] = owners
            await apply(server, ring)
            assert read(await pod_of(server, "ring"), "shop").requests[RECLAIMED_CPU] == 250
        await apply(server, a_pod("alone", amounts, GUEST))  # the webhook is gone
        alone = await pod_of(server, "alone")
        assert alone["spec"]["containers"][0]["resources"] == amounts | {"requests": {"cpu": "250m", "memory": "1536Mi"}, "limits": {"cpu": "2", "memory": "1536Mi"}}  # fmt: skip
        async with served(Path(server.ca), store, port):  # and is back
            await until_asked(server)


def services(trusted: Path, port: int) -> list[dict[str, Any]]:
    trust = base64.b64encode(trusted.read_bytes()).decode()
    name = {"name": "gateway", "namespace": "neap"}
    apis = [
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": f"{version}.{group}"},
            "spec": {
                "group": group, "version": version, "groupPriorityMinimum": 100, "versionPriority": 100,
                "caBundle": trust, "service": {**name, "port": port},
            },
        }
        for group, version in GROUPS.items()
    ]  # fmt: skip
    spec = {"type": "ExternalName", "externalName": "localhost"}
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "neap"}}
    return [space, {"apiVersion": "v1", "kind": "Service", "metadata": name, "spec": spec}, *apis]


async def until_available(server: ApiServer, service: str) -> None:
    """The aggregator has asked it, and takes its word."""
    try:
        await server.kubectl("wait", "--for=condition=Available", service, f"--timeout={SOON:g}s")
    except PortError as error:
        said = await server.kubectl("get", service, "-o", "jsonpath={.status.conditions}")
        raise AssertionError(said) from error


async def raw(server: ApiServer, path: str, query: str = "") -> Any:
    return json.loads(await server.kubectl("get", "--raw", path + query))


@pytest.mark.timeout(HANG)
async def test_an_autoscaler_finds_metrics_behind_the_api_server(tmp_path: Path) -> None:
    need_assets()
    trusted, _ = certificate(tmp_path, "gateway")
    store = MetricStore(MetricSettings())
    store.meet_node("n1", {}, 4000)
    store.meet_pod("u1", "shop", "cart-1", {"app": "cart"}, 1000)
    used = ContainerUsage(uid="u1", container="c", cgroup="c", cpu=0.75, memory=1 << 20)
    report = NodeUsage(at=NOW, source="reporter", node="n1", seq=1, period=1.0, cpu=2.0, containers=(used,))
    assert store.report(report, NOW)
    store.learn(
        ServiceProfile(at=0.0, source="p", key="shop/Deployment/cart", version="1", portrait={"cpu": (250.0,) * 24})
    )
    async with ApiServer() as server, served(trusted, store) as port:
        await apply(server, *services(trusted, port))
        for group, version in GROUPS.items():
            await until_available(server, f"apiservice/{version}.{group}")
        custom, external = (f"/apis/{group}/{version}" for group, version in GROUPS.items())
        found = await raw(server, f"{custom}/namespaces/shop/pods/*/pod_cpu_usage_agg_max", "?labelSelector=app%3Dcart")
        assert found["items"][0]["value"] == "750m"
        assert (await raw(server, f"{custom}/nodes/n1/node_cpu_usage_ratio"))["items"][0]["value"] == "500m"
        query = "?labelSelector=workload%3Dcart%2Cresource%3Dcpu"
        found = await raw(server, f"{external}/namespaces/shop/neap_predicted_usage", query)
        assert found["items"][0]["value"] == "250m"
        with pytest.raises(PortError, match="NotFound"):
            await raw(server, f"{custom}/namespaces/shop/pods/*/requests_per_second")
        listed = await raw(server, custom)
        assert "pods/pod_cpu_load_1min_agg_max" in {one["name"] for one in listed["resources"]}
