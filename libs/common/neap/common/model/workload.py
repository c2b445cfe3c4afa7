"""What somebody wants to run: a pod's worth of containers with a QoS class."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from neap.common.model.affinity import DeviceAsk
from neap.common.model.qos import QosClass
from neap.common.model.resource import Resources, add
from neap.common.model.scheduling import Constraints, Gang

UID: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")  # it names cgroups, and travels in headers and keys


class Container(msgspec.Struct, frozen=True, kw_only=True):
    """One container; `requests` maps resource kind to whole units (see model.resource)."""

    name: str
    requests: Resources
    limits: Resources = {}


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """What a running pod has, once it was resized in place."""

    containers: tuple[Container, ...]
    init_requests: Resources = {}


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """One pod. `uid` is unique for ever; `attempt` counts how often it went through the queue."""

    uid: str
    namespace: str
    name: str
    qos: QosClass
    containers: tuple[Container, ...]
    init_requests: Resources = {}  # the largest init container, per kind
    priority: int = 0
    attempt: int = 1
    owner: str = ""  # "Deployment/feed"; empty for a bare pod
    pool: str = ""  # CPU pool asked for (cpuset_pool); empty: the class's own
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    node_selector: dict[str, str] = {}
    gpu_models: tuple[str, ...] = ()  # allowed card models; empty: any
    constraints: Constraints = Constraints()
    gang: Gang | None = None
    images: tuple[str, ...] = ()  # its containers need
    datasets: tuple[str, ...] = ()  # it reads
    devices: DeviceAsk | None = None  # GPUs and network cards near each other

    @property
    def key(self) -> str:
        """namespace/name, as people say it."""
        return f"{self.namespace}/{self.name}"

    @property
    def size(self) -> Size:
        """What a resize in place changes."""
        return Size(containers=self.containers, init_requests=self.init_requests)

    def sized(self, size: Size) -> Workload:
        """The same with another size."""
        return msgspec.structs.replace(self, containers=size.containers, init_requests=size.init_requests)

    @property
    def requests(self) -> Resources:
        """Per kind the larger of the sum over the containers and the largest init container."""
        total: Resources = {}
        for container in self.containers:
            total = add(total, container.requests)
        return total | {kind: amount for kind, amount in self.init_requests.items() if amount > total.get(kind, 0)}
