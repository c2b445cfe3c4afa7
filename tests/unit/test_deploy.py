"""The manifests, as kustomize renders them: whatever one object names of another exists, and nobody has too many rights."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from neap.common.kube import generate
from neap.common.kube.crd import DEFINITIONS
from neap.common.kube.rbac import ACCOUNT, GRANTS, PLANS, READ, TAINTS, roles
from neap.common.kube.users import CENTRAL_ROOMS, NODE_ROOMS
from neap.common.runtime.launch import find_room
from neap.common.runtime.settings import ProcessSettings, Sources
from neap.common.testing.apiserver import find_assets
from neap.gateway.core.keys.credentials import credentials
from neap.gateway.core.kinds.table import KINDS
from neap.gateway.shell.keys import Pair
from neap.gateway.wiring import ALWAYS
from tests.conftest import ROOT, SOON
from tests.kube.server import need_assets

PLACE: Final = ROOT / "deploy/k8s"
OVERLAYS: Final = ("dev", "prod", "gpu", "hardened")
WORKLOADS: Final = ("Deployment", "DaemonSet", "StatefulSet", "Job")
HOST_PATHS: Final = {  # all that is seen of hosts, and by whom; "rw": written as well
    ("neap-reporter", "/proc"): "ro",
    ("neap-reporter", "/sys"): "ro",
    ("neap-enforcer", "/proc"): "ro",
    ("neap-enforcer", "/sys"): "ro",
    ("neap-enforcer", "/sys/fs/cgroup/kubepods.slice"): "rw",
    ("neap-enforcer", "/var/lib/neap"): "rw",
    ("neap-enforcer", "/var/run/nri"): "rw",
}
TOKENS: Final = {"neap-gateway", "neap-keys"}  # whose pods hold a token of the Kubernetes API
ROOTS: Final = {"neap-enforcer"}  # whose user is root; nobody has a capability
Document = Mapping[str, Any]


def kubectl() -> str:
    """That of the assets, or any: all of them have the same kustomize."""
    found = shutil.which("kubectl")
    if found is None:
        need_assets()
        found = str(find_assets() / "kubectl")
    return found


@cache
def rendered(overlay: str) -> tuple[Document, ...]:
    """All objects of an overlay."""
    command = [kubectl(), "kustomize", str(PLACE / "overlays" / overlay)]
    known = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=SOON, check=False, env=known)
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


@pytest.fixture(params=OVERLAYS)
def objects(request: pytest.FixtureRequest) -> tuple[Document, ...]:
    return rendered(request.param)


def of(objects: tuple[Document, ...], *kinds: str) -> list[Document]:
    return [one for one in objects if one["kind"] in kinds]


def name(one: Document) -> str:
    return str(one["metadata"]["name"])


def namespace(one: Document) -> str:
    return str(one["metadata"].get("namespace", ""))


def pods(objects: tuple[Document, ...]) -> Iterator[tuple[Document, Document, list[Document]]]:
    """Workload, its pod's spec, and its containers."""
    for one in of(objects, *WORKLOADS):
        spec = one["spec"]["template"]["spec"]
        yield one, spec, [*spec.get("initContainers", ()), *spec["containers"]]


def test_generated_manifests_are_up_to_date() -> None:
    assert generate.stale(ROOT) == []


def test_a_generated_manifest_that_differs_is_named_and_written_anew(tmp_path: Path) -> None:
    root = ["--root", str(tmp_path)]
    assert generate.main(root) == 0
    assert generate.main([*root, "--check"]) == 0
    (tmp_path / "deploy/k8s/base/crds/neap.io_gpupools.yaml").write_text("")
    (tmp_path / "deploy/k8s/base/crds/of_the_past.yaml").write_text("")
    assert generate.main([*root, "--check"]) == 1
    assert generate.main(root) == 0
    assert generate.main([*root, "--check"]) == 0


def test_every_object_says_whose_it_is(objects: tuple[Document, ...]) -> None:
    for one in objects:
        labels = one["metadata"].get("labels", {})
        assert (
            labels.get("app.kubernetes.io/part-of") == "neap"
            or one["kind"] in ("ConfigMap", "Namespace")
            or (name(one).startswith("neap-keys"))
        ), f"{one['kind']} {name(one)}"


def test_secrets_and_config_maps_are_made_by_somebody(objects: tuple[Document, ...]) -> None:
    made = {(one.kind, one.namespace, one.name) for one in credentials(Pair, serial=lambda: 1, at=0.0)}
    made |= {("ConfigMap", namespace(one), name(one)) for one in of(objects, "ConfigMap")}
    for one, spec, containers in pods(objects):
        wanted = {
            ("Secret", volume["secret"]["secretName"]) for volume in spec.get("volumes", ()) if "secret" in volume
        }
        wanted |= {
            ("ConfigMap", volume["configMap"]["name"]) for volume in spec.get("volumes", ()) if "configMap" in volume
        }
        for container in containers:
            wanted |= {("ConfigMap", source["configMapRef"]["name"]) for source in container.get("envFrom", ())}
        for kind, of_it in wanted:
            assert (kind, namespace(one), of_it) in made, f"{name(one)} names {kind} {of_it}"


def test_volumes_accounts_priorities_and_services_are_there(objects: tuple[Document, ...]) -> None:
    accounts = {(namespace(one), name(one)) for one in of(objects, "ServiceAccount")}
    priorities = {name(one) for one in of(objects, "PriorityClass")}
    services = {(namespace(one), name(one)) for one in of(objects, "Service")}
    for one, spec, containers in pods(objects):
        assert spec.get("serviceAccountName") is None or (namespace(one), spec["serviceAccountName"]) in accounts
        assert spec.get("priorityClassName") is None or spec["priorityClassName"] in priorities
        volumes = {volume["name"] for volume in spec.get("volumes", ())}
        volumes |= {claim["metadata"]["name"] for claim in one["spec"].get("volumeClaimTemplates", ())}
        mounted = {mount["name"] for container in containers for mount in container.get("volumeMounts", ())}
        assert mounted == volumes, name(one)
        if one["kind"] == "StatefulSet":
            assert (namespace(one), one["spec"]["serviceName"]) in services
    for one in of(objects, "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"):
        for hook in one["webhooks"]:
            service = hook["clientConfig"]["service"]
            assert (service["namespace"], service["name"]) in services
            assert hook["failurePolicy"] == "Ignore"
    for one in of(objects, "APIService"):
        assert (one["spec"]["service"]["namespace"], one["spec"]["service"]["name"]) in services
    for one in of(objects, "RoleBinding", "ClusterRoleBinding"):
        for subject in one["subjects"]:
            assert (subject["namespace"], subject["name"]) in accounts


def test_probes_services_and_policies_name_ports_that_are_served(objects: tuple[Document, ...]) -> None:
    exposed = int(re.search(r"^EXPOSE (\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[1])  # type: ignore[index]
    served: dict[str, dict[str, int]] = {}
    for one, _, containers in pods(objects):
        ports = {port["name"]: port["containerPort"] for container in containers for port in container.get("ports", ())}
        served[name(one)] = ports
        for container in containers:
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                if probe in container:
                    assert container[probe]["httpGet"]["port"] in ports, name(one)
        if "neap.io/room" in one["metadata"].get("labels", {}):
            assert ports["health"] == exposed
            assert one["spec"]["template"]["metadata"]["annotations"]["prometheus.io/port"] == str(exposed)
            assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(containers[0])
    for one in of(objects, "Service"):
        for port in one["spec"]["ports"]:
            assert port["targetPort"] in served[one["spec"]["selector"]["app.kubernetes.io/name"]], name(one)
    for one in of(objects, "NetworkPolicy"):
        target = one["spec"]["podSelector"].get("matchLabels", {}).get("app.kubernetes.io/name")
        for rule in one["spec"].get("ingress", ()):
            for port in rule.get("ports", ()):
                assert isinstance(port["port"], int) or target is None or port["port"] in served[target], name(one)


def test_every_setting_exists_and_holds(objects: tuple[Document, ...]) -> None:
    maps = {(namespace(one), name(one)): one["data"] for one in of(objects, "ConfigMap")}
    rooms = [one for one in pods(objects) if "neap.io/room" in one[0]["metadata"].get("labels", {})]
    assert len(rooms) >= len(NODE_ROOMS) - 1 + len(CENTRAL_ROOMS)
    for one, _, [container] in rooms:
        environment: dict[str, str] = {}
        for source in container["envFrom"]:
            environment |= maps[namespace(one), source["configMapRef"]["name"]]
        for variable in container.get("env", ()):
            told = variable.get("value", "n1" if "nodeName" in str(variable) else "0")
            environment[variable["name"]] = told
        room = find_room(one["metadata"]["labels"]["neap.io/room"])
        sources = Sources(environment=environment)
        sources.check([room.name, "process"])
        process = sources.load(ProcessSettings, "process")
        sources.load(room.settings, room.name)
        assert process.name == name(one)
        assert bool(process.nodes) == (room.name in NODE_ROOMS)
        mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
        for path in (process.nats_ca_file, process.nats_nkey_file):
            assert str(Path(path).parent) in mounts


def test_schedulers_have_a_part_of_the_workloads_each(objects: tuple[Document, ...]) -> None:
    [one] = [one for one in of(objects, "StatefulSet") if name(one) == "neap-scheduler"]
    [container] = one["spec"]["template"]["spec"]["containers"]
    told = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert told["NEAP_SCHEDULER__SHARDS"] == str(one["spec"]["replicas"])


def test_nobody_sees_more_of_a_host_than_it_needs(objects: tuple[Document, ...]) -> None:
    seen = {}
    for one, spec, [container, *_] in pods(objects):
        paths = {
            volume["name"]: volume["hostPath"]["path"] for volume in spec.get("volumes", ()) if "hostPath" in volume
        }
        for mount in container.get("volumeMounts", ()):
            if mount["name"] in paths:
                seen[name(one), paths[mount["name"]]] = "ro" if mount.get("readOnly") else "rw"
        assert not paths or namespace(one) == "neap-node"
        assert not any(spec.get(field) for field in ("hostNetwork", "hostPID", "hostIPC"))
    assert seen.items() <= HOST_PATHS.items()


def test_nobody_is_privileged_and_few_are_root(objects: tuple[Document, ...]) -> None:
    for one, spec, containers in pods(objects):
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert bool(spec.get("automountServiceAccountToken")) == (name(one) in TOKENS), name(one)
        assert "automountServiceAccountToken" in spec
        for container in containers:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert not context.get("privileged")
            assert (context.get("runAsUser") == 0) == (name(one) in ROOTS), name(one)
            assert {"cpu", "memory"} <= set(container["resources"]["requests"]), name(one)
            assert "memory" in container["resources"]["limits"]


def test_images_are_those_of_the_dockerfile_with_a_tag(objects: tuple[Document, ...]) -> None:
    for one, _, containers in pods(objects):
        for container in containers:
            image, _, tag = container["image"].partition(":")
            assert tag not in ("", "latest"), name(one)
            room = image.removeprefix("neap-")
            assert image == "nats" or (ROOT / "services" / room).is_dir(), name(one)


def test_the_gateways_rights_are_the_table_and_no_others_have_any(objects: tuple[Document, ...]) -> None:
    wanted = {(one["kind"], name(one)): one["rules"] for one in roles(GRANTS, ACCOUNT) if "rules" in one}
    found = {
        (one["kind"], name(one)): one["rules"]
        for one in of(objects, "Role", "ClusterRole")
        if not name(one).startswith("neap-keys")
    }
    assert found == wanted
    for one in of(objects, "Role", "ClusterRole"):
        for rule in one["rules"]:
            assert "*" not in (*rule["verbs"], *rule["resources"], *rule["apiGroups"])
            assert "secrets" not in rule["resources"] or rule["verbs"] == ["create"]
            assert "delete" not in rule["verbs"]
    assert not {grant.verbs for grant in (*TAINTS, *PLANS)} - {("patch",)}


@pytest.mark.parametrize("component", ["taints", "plans"])
def test_rights_that_are_asked_for_are_a_role_of_their_own_of_the_same_account(component: str, tmp_path: Path) -> None:
    place = os.path.relpath(PLACE / "components" / component, tmp_path)
    (tmp_path / "kustomization.yaml").write_text(f"components: [{place}]\n")
    known = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    command = [kubectl(), "kustomize", "--load-restrictor=LoadRestrictionsNone", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SOON, check=True, env=known)
    bound = [one for one in yaml.safe_load_all(done.stdout) if one["kind"] == "ClusterRoleBinding"]
    assert [one["subjects"][0]["name"] for one in bound] == [ACCOUNT]


def test_every_namespace_denies_by_default(objects: tuple[Document, ...]) -> None:
    everybody = {
        namespace(one)
        for one in of(objects, "NetworkPolicy")
        if one["spec"]["podSelector"] == {} and set(one["spec"]["policyTypes"]) == {"Ingress", "Egress"}
        and not one["spec"].get("ingress") and not one["spec"].get("egress")
    }  # fmt: skip
    assert everybody == {name(one) for one in of(objects, "Namespace")}


def test_what_a_cluster_has_several_of_may_be_disrupted_one_by_one(objects: tuple[Document, ...]) -> None:
    budgets = {name(one): one for one in of(objects, "PodDisruptionBudget")}
    for one in of(objects, "Deployment", "StatefulSet"):
        if name(one) in ("neap-console", "neap-planner"):  # of these a cluster has one
            continue
        labels = one["spec"]["template"]["metadata"]["labels"]
        assert budgets[name(one)]["spec"]["selector"]["matchLabels"].items() <= labels.items()
        assert one["spec"]["template"]["spec"]["topologySpreadConstraints"]
    for one in of(objects, "DaemonSet"):
        assert one["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"] == "10%"


def test_all_our_kinds_are_defined(objects: tuple[Document, ...]) -> None:
    assert {name(one) for one in of(objects, "CustomResourceDefinition")} == {str(one.kind) for one in DEFINITIONS}


def test_gpu_nodes_alone_run_gpushare() -> None:
    for overlay in OVERLAYS:
        found = [one for one in of(rendered(overlay), "DaemonSet") if name(one) == "neap-gpushare"]
        assert bool(found) == (overlay == "gpu")
        for one in found:
            assert "nodeAffinity" in one["spec"]["template"]["spec"]["affinity"]


def test_the_gateway_may_read_every_kind_it_follows() -> None:
    readable = {grant.kind for grant in GRANTS if set(READ) <= set(grant.verbs)}
    assert {*ALWAYS, *KINDS} <= readable
