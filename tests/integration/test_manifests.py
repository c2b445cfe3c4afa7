"""deploy/k8s on a real API server: what is applied is taken, what our kinds refuse is refused, and nobody has a right too
many: every verb of the gateway's table works as its account, and every other one is denied.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any, Final

import pytest

from neap.common.errors import Denied, PortError, Rejected
from neap.common.kube import katalyst, objects, own
from neap.common.kube.crd import DEFINITIONS
from neap.common.kube.kind import Kind
from neap.common.kube.objects import Narrow, Whatever
from neap.common.kube.port import Kube, PatchStyle
from neap.common.kube.rbac import GRANTS, LEASE
from neap.common.kube.users import ROOMS
from neap.common.testing.apiserver import ApiServer
from neap.gateway.core.acts import ScaleOwner, SizeOwner, Written
from neap.gateway.shell.hands import Hands
from neap.gateway.shell.http import connect
from neap.gateway.shell.keys import CONFIG_MAPS, SECRETS, ensure
from tests.conftest import HANG, ROOT, SOON
from tests.kube.server import need_assets

pytestmark = [pytest.mark.kube, pytest.mark.timeout(HANG)]

EXAMPLES: Final = ROOT / "examples/kubernetes"
ACCOUNTS: Final = ("system:serviceaccounts", "system:authenticated")
GATEWAY, KEYS = "system:serviceaccount:neap-system:neap-gateway", "system:serviceaccount:neap-system:neap-keys"
NOBODIES: Final = (
    "system:serviceaccount:neap-system:default",
    "system:serviceaccount:neap-node:default",
    "system:serviceaccount:neap-system:neap-nats",
)
GENERATIONS: Final = "jsonpath={range .items[*]}{.metadata.name} {.metadata.generation}\\n{end}"
VERBS: Final = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")


class Review(Narrow, frozen=True, kw_only=True):
    """What the API server says of somebody's right."""

    status: dict[str, Any] = {}  # noqa: RUF012


REVIEWS: Final = Kind(
    "authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", Review, namespaced=False
)
NEIGHBOURS: Final = (  # what others may, and nobody of neap
    ("", "secrets"), ("", "configmaps"), ("", "serviceaccounts"), ("", "serviceaccounts/token"), ("", "namespaces"),
    ("", "pods/exec"), ("", "pods/log"), ("", "pods/status"), ("", "pods/ephemeralcontainers"), ("", "nodes/proxy"),
    ("", "events"), ("", "persistentvolumes"), ("", "services"), ("apps", "deployments/scale"),
    ("rbac.authorization.k8s.io", "clusterroles"), ("rbac.authorization.k8s.io", "clusterrolebindings"),
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"), ("apiregistration.k8s.io", "apiservices"),
    ("apiextensions.k8s.io", "customresourcedefinitions"), ("scheduling.k8s.io", "priorityclasses"),
    ("certificates.k8s.io", "certificatesigningrequests"), ("policy", "poddisruptionbudgets/status"),
)  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    """One with the overlay `dev` applied, for all tests here; in the default namespace no webhook is asked."""
    need_assets()
    one = ApiServer(users=dict.fromkeys((GATEWAY, KEYS), ACCOUNTS))
    asyncio.run(_prepared(one))
    yield one
    asyncio.run(one.close())


async def _prepared(server: ApiServer) -> None:
    await server.start()
    await apply(server, "dev")
    names = [f"crd/{one.kind}" for one in DEFINITIONS]
    await server.kubectl("wait", "--for=condition=Established", f"--timeout={SOON:g}s", *names)
    await server.kubectl("label", "namespace", "default", "neap.io/admission=off")


async def apply(server: ApiServer, overlay: str) -> str:
    place = str(ROOT / "deploy/k8s/overlays" / overlay)
    return await server.kubectl("apply", "-k", place, "--server-side", "--validate=strict")


async def examples(server: ApiServer, *names: str) -> None:
    """Apply them; a kind that has just been defined takes a moment to be known."""
    files = [f"--filename={EXAMPLES / name}" for name in names]
    async with asyncio.timeout(SOON):
        while True:
            try:
                await server.kubectl("apply", "--validate=strict", "--recursive", *files)
            except PortError as error:
                if "no matches for kind" not in str(error):
                    raise
                await asyncio.sleep(0.05)
            else:
                return


async def test_all_overlays_apply_one_after_the_other_and_twice(server: ApiServer) -> None:
    for overlay in ("prod", "gpu", "hardened", "dev"):
        told = await apply(server, overlay)
        assert "daemonset.apps/neap-reporter" in told
    before = await server.kubectl("get", "ds,deploy,sts,netpol,crd", "-A", "-o", GENERATIONS)
    await apply(server, "dev")
    assert await server.kubectl("get", "ds,deploy,sts,netpol,crd", "-A", "-o", GENERATIONS) == before


async def test_a_cluster_takes_examples_shows_them_and_passes_pods_while_the_gateway_is_away(server: ApiServer) -> None:
    await examples(server, "")
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    await server.kubectl("create", "namespace", "asked")
    await server.kubectl("apply", "--namespace=asked", "-f", "-", said=json.dumps(pod))
    for columns in ("TIER FOR CANARY EXPIRES ACCEPTED AGE", "POOL NODES CARDS SHARING MPS ACCEPTED AGE"):
        kind = "npp" if columns.startswith("TIER") else "ngp"
        head = (await server.kubectl("get", kind)).splitlines()[0].split()
        assert head == ["NAME", *columns.split()]
    assert "batch-at-night   pool   batch   0.1" in await server.kubectl("get", "npp")
    every = await server.kubectl("get", "neap", "-A")
    assert {"nodepoolpolicy.neap.io/batch-at-night", "gpupool.neap.io/a100"} <= set(every.split())


def policy(**spec: Any) -> dict[str, Any]:
    rooms = {"rooms": {"advisor": {"lend": False}}}
    return {"apiVersion": "neap.io/v1alpha1", "kind": "NodePoolPolicy", "metadata": {"name": "p"}, "spec": rooms | spec}


def kcat(group: str, kind: str, spec: Any, **metadata: Any) -> dict[str, Any]:
    version = f"{group}.katalyst.kubewharf.io/v1alpha1"
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "k", **metadata}, "spec": spec}


REFUSED: Final = (
    (policy(tier="cluster", selector="x"), "tier cluster selects nothing"),
    (policy(tier="pool"), "tiers pool, node and service need a selector"),
    (policy(tier="service", selector="shop/cart"), "NAMESPACE/KIND/NAME"),
    (policy(selector="x", rooms={"chef": {"a": 1}}), "rooms: only advisor"),
    (policy(selector="x", rooms={"advisor": {}}), "should have at least 1 properties"),
    (policy(selector="x", canary=1.5), "should be less than or equal to 1"),
    (policy(selector="x", schedule={"start": "10:00", "end": "10:00"}), "the schedule has no length"),
    (policy(selector="x", schedule={"start": "25:00", "end": "10:00"}), "should match"),
    (policy(selector="x", begins="2026-01-02T00:00:00Z", expires="2026-01-01T00:00:00Z"), "expires before it begins"),
    (policy(selector="x") | {"metadata": {"name": "p" * 61}}, "60 characters at most"),
    ({"apiVersion": "neap.io/v1alpha1", "kind": "GpuPool", "metadata": {"name": "g"}, "spec": {}}, "spec.pool: Required"),
    (
        {
            "apiVersion": "neap.io/v1alpha1",
            "kind": "ServiceProfile",
            "metadata": {"name": "s", "namespace": "default"},
            "spec": {"target": {"kind": "Deployment", "name": "s"}, "portrait": {"cpu": [1, 2]}},
        },
        "should have at least 24 items",
    ),
    (
        {
            "apiVersion": "neap.io/v1alpha1",
            "kind": "ServiceProfile",
            "metadata": {"name": "s", "namespace": "default"},
            "spec": {"target": {"kind": "Deployment", "name": "s"}},
        },
        "it says nothing",
    ),
    (
        kcat("overcommit", "NodeOvercommitConfig", {"nodeOvercommitSelectorVal": "x", "resourceOvercommitRatio": {"cpu": "0.5"}}),
        "a ratio below 1",
    ),
    (
        kcat("overcommit", "NodeOvercommitConfig", {"nodeOvercommitSelectorVal": "x", "resourceOvercommitRatio": {"gpu": "2"}}),
        "only cpu and memory",
    ),
    (
        kcat("config", "AdminQoSConfiguration", {"ephemeralSelector": {"nodeNames": ["n1"]}}, namespace="default"),
        "needs lastDuration",
    ),
)  # fmt: skip


async def test_what_does_not_hold_is_refused_with_a_sentence(server: ApiServer) -> None:
    kinds = {one.kind.name: one.kind for one in DEFINITIONS}
    async with await connect(kubeconfig=server.kubeconfig, call=SOON) as kube:
        await kube.create(own.NODE_POOL_POLICIES, policy(selector="x"), rehearse=True)
        for document, says in REFUSED:
            kind, where = kinds[document["kind"]], document["metadata"].get("namespace", "")
            with pytest.raises(Rejected) as refused:
                await kube.create(kind, document, namespace=where, rehearse=True)
            assert says in str(refused.value), f"{document}: {refused.value}"


async def test_the_job_makes_keys_once_and_tells_the_api_server_whom_to_trust(server: ApiServer) -> None:
    async with await connect(kubeconfig=server.kubeconfig_of(KEYS), call=SOON) as kube:
        assert await ensure(kube, 1_800_000_000.0) is True
        assert await ensure(kube, 1_800_000_000.0) is False
        with pytest.raises(Denied):
            await kube.get(SECRETS, "neap-nkey-gateway", namespace="neap-system")
        authority = await kube.get(CONFIG_MAPS, "neap-authority", namespace="neap-system")
    bundles = "{.webhooks[0].clientConfig.caBundle}"
    hook = await server.kubectl("get", "mutatingwebhookconfiguration", "neap", "-o", f"jsonpath={bundles}")
    path = "jsonpath={.spec.caBundle}"
    served = await server.kubectl("get", "apiservice", "v1beta1.external.metrics.k8s.io", "-o", path)
    assert hook == served != ""
    assert authority.data is not None
    made = await server.kubectl("get", "secret", "-A", "-l", "app.kubernetes.io/managed-by=neap-keys", "-o", "name")
    assert len(made.split()) == len(ROOMS) + 2
    await apply(server, "dev")
    kept = await server.kubectl("get", "mutatingwebhookconfiguration", "neap", "-o", f"jsonpath={bundles}")
    assert kept == hook


async def may(kube: Kube, user: str, verb: str, group: str, resource: str, namespace: str = "", name: str = "") -> bool:
    plural, _, below = resource.partition("/")
    asked = {
        "verb": verb,
        "group": group,
        "resource": plural,
        "subresource": below,
        "namespace": namespace,
        "name": name,
    }
    body = {"spec": {"user": user, "groups": list(ACCOUNTS), "resourceAttributes": asked}}
    review = await kube.create(REVIEWS, body)
    return bool(review.status["allowed"])


async def test_the_gateway_has_the_rights_of_the_table_and_nobody_else_any(server: ApiServer) -> None:
    granted = {(grant.kind.group, grant.resource): grant for grant in GRANTS if grant.kind is not objects.LEASES}
    asked = {*granted, *NEIGHBOURS}
    async with await connect(kubeconfig=server.kubeconfig, call=SOON) as kube:
        for group, resource in sorted(asked):
            for verb in VERBS:
                grant = granted.get((group, resource))
                is_due = grant is not None and verb in grant.verbs
                told = await may(kube, GATEWAY, verb, group, resource, "shop")
                assert told == is_due, f"{verb} {resource}.{group}"
                if is_due or verb == "get":
                    for nobody in NOBODIES:
                        assert not await may(kube, nobody, verb, group, resource, "neap-system")
        for verb, where, name, is_due in (
            ("get", "neap-system", LEASE, True),
            ("update", "neap-system", LEASE, True),
            ("update", "neap-system", "another", False),
            ("update", "kube-system", LEASE, False),
            ("delete", "neap-system", LEASE, False),
        ):
            assert await may(kube, GATEWAY, verb, "coordination.k8s.io", "leases", where, name) == is_due


async def test_the_gateway_does_its_work_with_its_rights_and_nothing_beyond(server: ApiServer) -> None:
    async with (
        await connect(kubeconfig=server.kubeconfig, call=SOON) as admin,
        await connect(kubeconfig=server.kubeconfig_of(GATEWAY), call=SOON) as gateway,
    ):
        await prepare(server, admin)
        await work(gateway)
        await trespass(gateway)


async def test_where_plans_are_carried_out_the_gateway_may_size_and_scale_and_no_more(server: ApiServer) -> None:
    role = str(ROOT / "deploy/k8s/components/plans/role.yaml")
    await server.kubectl("apply", "-f", role)
    try:
        async with (
            await connect(kubeconfig=server.kubeconfig, call=SOON) as admin,
            await connect(kubeconfig=server.kubeconfig_of(GATEWAY), call=SOON) as gateway,
            asyncio.timeout(SOON),
        ):
            while not await may(admin, GATEWAY, "patch", "apps", "deployments/scale", "shop"):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            labels = {"app": "sized"}
            container = {"name": "main", "image": "x", "resources": {"requests": {"cpu": "1"}}}
            template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
            body = {"metadata": {"name": "sized"}, "spec": {"selector": {"matchLabels": labels}, "template": template}}
            made = await admin.create(objects.DEPLOYMENTS, body, namespace="default")
            hands = Hands(gateway, None)  # type: ignore[arg-type]  no act of a plan asks the bus
            for is_template in (False, True):
                to = {"main": {"requests": {"cpu": 250}}}
                act = SizeOwner(objects.DEPLOYMENTS, "default", "sized", to, "v1", "plan", is_template)
                assert await hands.size(act) == Written("changed")
            scale = ScaleOwner(objects.DEPLOYMENTS, "default", "sized", made.metadata.uid, 3)
            assert await hands.scale(scale) == Written()
            for verb in ("create", "update", "delete"):
                assert not await may(admin, GATEWAY, verb, "apps", "deployments", "default")
            assert not await may(admin, GATEWAY, "patch", "apps", "replicasets", "default")
    finally:
        await server.kubectl("delete", "-f", role)


async def prepare(server: ApiServer, admin: Kube) -> None:
    """A node, a namespace with two pods, and one object of every kind that people write."""
    capacity = {"cpu": "8", "memory": "16Gi", "pods": "110"}
    await admin.create(
        objects.NODES, {"metadata": {"name": "n1"}, "status": {"capacity": capacity, "allocatable": capacity}}
    )
    await admin.create(objects.NAMESPACES, {"metadata": {"name": "shop", "labels": {"neap.io/admission": "off"}}})
    for name in ("a", "b"):
        container = {"name": "main", "image": "x", "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "1"}}}
        await admin.create(
            objects.PODS, {"metadata": {"name": name}, "spec": {"containers": [container]}}, namespace="shop"
        )
    files = ("policy", "gpu-pool", "profile", "katalyst/eviction", "katalyst/profile", "katalyst/overcommit")
    await examples(server, *(f"{name}.yaml" for name in files))


async def read(gateway: Kube, kind: Kind[Any]) -> None:
    """List and watch."""
    page = await gateway.list(kind)
    async with gateway.watch(kind, version=page.version, within=1.0) as said:
        async for _ in said:
            break


async def work(gateway: Kube) -> None:
    """Every verb of the table, once."""
    async with asyncio.TaskGroup() as group:
        for grant in GRANTS:
            if "list" in grant.verbs:
                group.create_task(read(gateway, grant.kind))
    for name in ("a", "b"):
        pod = await gateway.get(objects.PODS, name, namespace="shop")
        await gateway.bind("shop", name, uid=pod.metadata.uid, node="n1")
    bound = await gateway.get(objects.PODS, "a", namespace="shop")
    assert bound.spec.node_name == "n1"
    more = {"spec": {"containers": [{"name": "main", "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "2"}}}]}}
    strategic = PatchStyle.STRATEGIC
    await gateway.patch(objects.PODS, "a", more, namespace="shop", subresource="resize", style=strategic)
    await gateway.evict("shop", "b", uid=(await gateway.get(objects.PODS, "b", namespace="shop")).metadata.uid)
    lent = {"status": {"capacity": {"neap.io/reclaimed-millicpu": "4000"}}}
    await gateway.patch(objects.NODES, "n1", lent, subresource="status", style=strategic)
    event = {
        "metadata": {"name": "a.1"}, "eventTime": "2026-11-22T00:00:00.000000Z", "reportingController": "neap.io/gateway",
        "reportingInstance": "t", "action": "Binding", "reason": "Placed", "type": "Normal", "note": "on n1",
        "regarding": {"kind": "Pod", "namespace": "shop", "name": "a"},
    }  # fmt: skip
    await gateway.create(objects.EVENTS, event, namespace="shop")
    mirror = {"spec": {}, "metadata": {}}
    await gateway.apply(katalyst.NODE_MIRRORS, "n1", mirror, manager="neap-gateway")
    amounts = {katalyst.RECLAIMED_MILLICPU: "4k", katalyst.RECLAIMED_BYTES: "8Gi"}
    status = {"resources": {"allocatable": amounts}, "conditions": [{"type": "AgentReady", "status": "True"}]}
    body = {"status": status}
    await gateway.apply(katalyst.NODE_MIRRORS, "n1", body, manager="neap-gateway", subresource="status", force=True)
    shown = await gateway.get(katalyst.NODE_MIRRORS, "n1")
    assert shown.status.resources.allocatable == amounts
    lease = {"metadata": {"name": LEASE}, "spec": {"holderIdentity": "one", "leaseDurationSeconds": 15}}
    made = await gateway.create(objects.LEASES, lease, namespace="neap-system")
    await gateway.replace(objects.LEASES, LEASE, made, namespace="neap-system")
    accepted = {"status": {"conditions": [{"type": own.ACCEPTED, "status": "True", "reason": "Honoured"}]}}
    for kind, name, where in (
        (own.NODE_POOL_POLICIES, "batch-at-night", ""),
        (own.GPU_POOLS, "a100", ""),
        (own.SERVICE_PROFILES, "cart", "default"),
        (katalyst.ADMIN_QOS, "reclaimed-eviction-config", "default"),
        (katalyst.CUSTOM_CONFIGS, "aqc", "default"),
        (katalyst.OVERCOMMIT_CONFIGS, "overcommit-demo", ""),
        (katalyst.PROFILE_DESCRIPTORS, "shop", "default"),
    ):
        told = await gateway.patch(kind, name, accepted, namespace=where, subresource="status")
        assert told.status.conditions[0].type == own.ACCEPTED


async def trespass(gateway: Kube) -> None:
    """What neighbours may."""
    label = {"metadata": {"labels": {"x": "y"}}}
    for attempt in (
        gateway.delete(objects.PODS, "a", namespace="shop"),
        gateway.patch(objects.PODS, "a", label, namespace="shop"),
        gateway.patch(objects.PODS, "a", {"status": {"phase": "Failed"}}, namespace="shop", subresource="status"),
        gateway.create(objects.PODS, {"metadata": {"name": "c"}, "spec": {"containers": []}}, namespace="shop"),
        gateway.patch(objects.NODES, "n1", {"spec": {"unschedulable": True}}),
        gateway.delete(objects.NODES, "n1"),
        gateway.list(SECRETS),
        gateway.list(objects.NAMESPACES),
        gateway.patch(own.GPU_POOLS, "a100", label),
        gateway.delete(katalyst.NODE_MIRRORS, "n1"),
        gateway.create(objects.LEASES, {"metadata": {"name": "x"}}, namespace="kube-system"),
        gateway.patch(objects.DEPLOYMENTS, "neap-gateway", label, namespace="neap-system"),
        gateway.list(
            Kind("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", Whatever, namespaced=False)
        ),
    ):
        with pytest.raises(Denied):
            await attempt


async def test_a_namespaces_security_level_holds_for_who_comes_later(server: ApiServer) -> None:
    async with await connect(kubeconfig=server.kubeconfig, call=SOON) as kube:
        container = {"name": "x", "image": "x", "securityContext": {"privileged": True}}
        with pytest.raises((Rejected, Denied), match="violates PodSecurity"):
            await kube.create(
                objects.PODS,
                {"metadata": {"name": "x"}, "spec": {"containers": [container]}},
                namespace="neap-system",
            )
