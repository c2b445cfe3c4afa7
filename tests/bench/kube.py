"""What reading a cluster costs: a page of 1,000 pods as the gateway reads it, and as the client's models would.

The pods are as an API server writes them: probes, volumes, environment, status and managed fields included, 4 kB each.
The client is generous to itself here: text to dict by json, dict to model by its own deserialisation.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from statistics import median
from typing import Any, Final

from neap.common.kube.objects import PODS
from neap.gateway.shell.answer import page_decoder
from tests.bench.measure import Row

PODS_IN_ALL: Final = 1_000
ROUNDS: Final = 5
GOAL: Final = 20.0
IMPORTED: Final = """
import sys, aiohttp, msgspec
def rss(): return int(open('/proc/self/statm').read().split()[1]) * 4096 / 1e6
before = rss()
__import__(sys.argv[1])
print(rss() - before)
"""


def page(pods: int) -> bytes:
    """A PodList."""
    items = [_pod(number) for number in range(pods)]
    return json.dumps(
        {"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "7"}, "items": items}
    ).encode()


def rows() -> Iterator[Row]:
    from kubernetes_asyncio.client import ApiClient, Configuration

    raw, client = page(PODS_IN_ALL), object.__new__(ApiClient)  # its __init__ opens a session
    client.configuration = Configuration()
    decoder = page_decoder(PODS)

    def narrow() -> None:
        assert len(decoder.decode(raw).items or ()) == PODS_IN_ALL

    def models() -> None:
        assert len(client._ApiClient__deserialize(json.loads(raw), "V1PodList").items) == PODS_IN_ALL

    pairs = [(_seconds(narrow), _seconds(models)) for _ in range(ROUNDS)]
    ours, theirs = median(one for one, _ in pairs), median(two for _, two in pairs)
    yield Row(
        name="gateway: pods decoded", value=PODS_IN_ALL / ours, unit="pods/s", rival="the client's models",
        rival_value=PODS_IN_ALL / theirs, ratio=median(two / one for one, two in pairs), at_least=GOAL,
        note=f"{len(raw) / PODS_IN_ALL / 1e3:.1f} kB each",
    )  # fmt: skip
    ours, theirs = _weight("neap.gateway.shell.client"), _weight("kubernetes_asyncio")
    yield Row(
        name="gateway: importing the client", value=ours, unit="MB", rival="as it comes", rival_value=theirs,
        at_most=15.0, note="resident, on top of aiohttp",
    )  # fmt: skip


def _seconds(work: Any) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def _weight(module: str) -> float:
    answer = subprocess.run([sys.executable, "-c", IMPORTED, module], check=True, capture_output=True, text=True)
    return float(answer.stdout)


def _pod(number: int) -> dict[str, Any]:
    """As `kubectl get -o json` shows one of a Deployment's."""
    at, name = "2026-01-02T03:04:05Z", f"cart-5d8c7b9f4-{number:05}"
    probe = {"httpGet": {"path": "/healthz", "port": 8080, "scheme": "HTTP"}, "periodSeconds": 10, "timeoutSeconds": 1,
             "successThreshold": 1, "failureThreshold": 3}  # fmt: skip
    owned = {"f:metadata": {"f:labels": {".": {}, "f:app": {}, "f:pod-template-hash": {}}}, "f:spec": {
        "f:containers": {'k:{"name":"server"}': {field: {} for field in (
            ".", "f:env", "f:image", "f:imagePullPolicy", "f:livenessProbe", "f:name", "f:ports", "f:readinessProbe",
            "f:resources", "f:terminationMessagePath", "f:volumeMounts",
        )}}, "f:dnsPolicy": {}, "f:restartPolicy": {}, "f:schedulerName": {}, "f:terminationGracePeriodSeconds": {},
    }}  # fmt: skip
    container = {
        "name": "server", "image": "registry.example/shop/cart:v1.2.3", "imagePullPolicy": "IfNotPresent",
        "ports": [{"containerPort": 8080, "protocol": "TCP"}], "livenessProbe": probe, "readinessProbe": probe,
        "env": [{"name": f"SERVICE_{letter}_ADDR", "value": f"{letter.lower()}.shop:7070"} for letter in "ABCDEF"],
        "resources": {"requests": {"cpu": "200m", "memory": "180Mi"}, "limits": {"cpu": "300m", "memory": "300Mi"}},
        "volumeMounts": [{"name": "token", "readOnly": True, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}],
        "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
    }  # fmt: skip
    kinds = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    status = {
        "phase": "Running", "hostIP": "10.1.2.3", "podIP": "10.2.3.4", "startTime": at, "qosClass": "Burstable",
        "conditions": [{"type": kind, "status": "True", "lastProbeTime": None, "lastTransitionTime": at} for kind in kinds],
        "containerStatuses": [{
            "name": "server", "ready": True, "started": True, "restartCount": 0, "state": {"running": {"startedAt": at}},
            "lastState": {}, "image": container["image"], "imageID": f"sha256:{number:064x}", "containerID": f"c://{number:064x}",
        }],
    }  # fmt: skip
    metadata = {
        "name": name, "generateName": "cart-5d8c7b9f4-", "namespace": "shop", "uid": f"{number:032x}",
        "resourceVersion": str(1_000 + number), "creationTimestamp": at, "labels": {"app": "cart", "pod-template-hash": "5d8c7b9f4"},
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "cart-5d8c7b9f4", "uid": "1", "controller": True,
                             "blockOwnerDeletion": True}],
        "managedFields": [{"manager": "kube-controller-manager", "operation": "Update", "apiVersion": "v1", "time": at,
                           "fieldsType": "FieldsV1", "fieldsV1": owned}],
    }  # fmt: skip
    spec = {
        "containers": [container], "restartPolicy": "Always", "terminationGracePeriodSeconds": 5, "dnsPolicy": "ClusterFirst",
        "serviceAccountName": "cart", "serviceAccount": "cart", "nodeName": f"n{number % 50}", "schedulerName": "default-scheduler",
        "securityContext": {"fsGroup": 1000, "runAsUser": 1000}, "priority": 0, "enableServiceLinks": True,
        "tolerations": [{"key": f"node.kubernetes.io/{word}", "operator": "Exists", "effect": "NoExecute",
                         "tolerationSeconds": 300} for word in ("not-ready", "unreachable")],
        "volumes": [{"name": "token", "projected": {"sources": [{"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}}]}}],
    }  # fmt: skip
    return {"metadata": metadata, "spec": spec, "status": status}
