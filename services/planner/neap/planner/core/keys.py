"""Keys of services, namespace/Kind/name: how desks, record and cluster name them, and how messages do."""

from __future__ import annotations

from typing import Protocol, TypedDict

from neap.common.model.profile import profile_key
from neap.common.model.trail import ObjectRef
from neap.common.model.workload import Workload


class Named(Protocol):
    """A message about a service."""

    @property
    def namespace(self) -> str:
        """It is in."""
        ...

    @property
    def kind(self) -> str:
        """Such as Deployment."""
        ...

    @property
    def name(self) -> str:
        """Within them."""
        ...


class Tokens(TypedDict):
    """A key in its parts, as subjects and messages have them."""

    namespace: str
    kind: str
    name: str


def key_of(told: Named) -> str:
    """The key of whom a message is about."""
    return f"{told.namespace}/{told.kind}/{told.name}"


def service_of(workload: Workload) -> str:
    """The key of a pod's service. Who names an owner that is not written Kind/name is a pod by itself."""
    key = profile_key(workload)
    return key if key.count("/") > 1 else f"{workload.namespace}/Pod/{workload.name}"


def tokens_of(key: str) -> Tokens:
    """What a key is made of."""
    namespace, kind, name = key.split("/", 2)
    return Tokens(namespace=namespace, kind=kind, name=name)


def object_of(told: Named) -> ObjectRef:
    """A service as the trail names it."""
    return ObjectRef(namespace=told.namespace, name=told.name, uid=key_of(told), kind=told.kind)
