"""The server behind MemoryKube: what the verbs of a Kubernetes API do to what is stored. Synchronous; time is handed in."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Final

import msgspec

from neap.common.errors import Conflict, Rejected, Vanished
from neap.common.kube import memory_rules as rules
from neap.common.kube.kind import Kind
from neap.common.kube.memory_fields import Owner, applied, changed_by
from neap.common.kube.memory_rules import Object
from neap.common.kube.memory_store import Entry, Store
from neap.common.kube.objects import BUDGETS, NAMESPACES, PODS
from neap.common.kube.port import Body
from neap.common.units import Seconds

AT_FIRST: Final = ("default", "kube-node-lease", "kube-public", "kube-system")
LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"  # of generated names; no word comes of them
SUFFIX: Final = 5
LARGEST: Final = 3 * 512 * 1024  # bytes of a request, as etcd takes them


def plain(body: Any) -> Any:
    """As JSON would carry it: nothing is shared with the caller.

    Raises:
        Rejected: it is larger than etcd takes.
    """
    raw = msgspec.json.encode(body)
    if len(raw) > LARGEST:
        raise Rejected(f"Request entity too large: {len(raw)} bytes")
    return msgspec.json.decode(raw)


class Server:
    """See module docstring."""

    def __init__(self, now: Callable[[], Seconds], random: Random) -> None:
        self.now, self._random = now, random
        self.store = Store()
        for name in AT_FIRST:
            self.create(NAMESPACES, {"metadata": {"name": name}}, "", "kube-apiserver")

    def entry(self, kind: Kind[Any], key: str) -> Entry:
        """What is stored.

        Raises:
            Vanished: nothing is.
        """
        found = self.store.shelf(kind).entries.get(key)
        if found is None:
            raise Vanished(f"{kind} {key} not found")
        return found

    def create(
        self,
        kind: Kind[Any],
        body: Body,
        namespace: str,
        manager: str,
        *,
        rehearse: bool = False,
        applies: bool = False,
    ) -> Entry:
        """A new object.

        Raises:
            Conflict: it is there.
            Vanished: its namespace is not.
            Rejected: it does not hold.
        """
        object = plain(body)
        metadata = {name: each for name, each in (object.get("metadata") or {}).items() if name not in rules.FIXED}
        asked = object.get("metadata") or {}
        metadata["name"] = asked.get("name") or self._name(asked.get("generateName") or "")
        if kind.namespaced:
            metadata["namespace"] = namespace or asked.get("namespace") or ""
            self.entry(NAMESPACES, metadata["namespace"])
        metadata |= {"uid": self._uid(), "creationTimestamp": rules.stamp(self.now())}
        if asked.get("generateName"):
            metadata["generateName"] = asked["generateName"]
        metadata.pop("resourceVersion", None)
        object |= {"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata}
        object = rules.born(kind, rules.checked(object, f"create {kind}"))
        key = _key(metadata)
        if key in self.store.shelf(kind).entries:
            raise Conflict(f"{kind} {key} already exists")
        wrote = plain(body) if applies else object  # an apply owns what it says, anybody else all there is
        owners = changed_by({}, Owner(manager, applies), {}, wrote)
        if rehearse:
            return Entry(0, object, owners)
        return self.store.put(kind, key, object, owners)

    def write(
        self, kind: Kind[Any], key: str, subresource: str, manager: str, change: Callable[[Object], Object]
    ) -> Entry:
        """An object as `change` makes it.

        Raises:
            Vanished, Conflict, Rejected: as the port says.
        """
        old = self.entry(kind, key)
        new = change(old.object)
        self._demand(kind, key, old, new)
        new = rules.checked(rules.written(kind, subresource, old.object, new), f"write {kind}")
        owners = changed_by(old.owners, Owner(manager, applies=False, subresource=subresource), old.object, new)
        return self._keep(kind, key, old, new, owners)

    def replace(self, kind: Kind[Any], key: str, subresource: str, manager: str, body: Body) -> Entry:
        """The whole object."""
        new = plain(body)
        metadata = new.get("metadata") or {}
        if not metadata.get("resourceVersion") and kind.group not in rules.UNCONDITIONAL:
            raise Rejected(f"replace {kind} {key}: metadata.resourceVersion: must be specified for an update")

        def whole(old: Object) -> Object:
            known = {name: old["metadata"][name] for name in ("resourceVersion", "uid")}
            return {**new, "metadata": {**known, **{name: each for name, each in metadata.items() if each}}}

        return self.write(kind, key, subresource, manager, whole)

    def apply(self, kind: Kind[Any], key: str, subresource: str, manager: str, body: Body, *, force: bool) -> Entry:
        """Server-side apply."""
        said = plain(body)
        metadata = said.get("metadata") or {}
        if key not in self.store.shelf(kind).entries and not subresource:
            return self.create(kind, said, metadata.get("namespace", ""), manager, applies=True)
        old = self.entry(kind, key)
        known = {"metadata": {"name": old.object["metadata"]["name"]}}
        self._demand(kind, key, old, {"metadata": {**old.object["metadata"], **metadata}})
        metadata.pop("resourceVersion", None)
        if subresource:
            said = known | {"status": said.get("status") or {}} if subresource == "status" else said
        elif rules.has_status(kind):
            said.pop("status", None)
        owner = Owner(manager, applies=True, subresource=subresource)
        new, owners = applied(old.object, said, old.owners, owner, force=force)
        new = rules.checked(rules.written(kind, subresource, old.object, new), f"apply {kind}")
        return self._keep(kind, key, old, new, owners)

    @staticmethod
    def _demand(kind: Kind[Any], key: str, old: Entry, new: Object) -> None:
        """A write that names a version or uid means that one."""
        metadata = new.get("metadata") or {}
        for name in ("uid", "resourceVersion"):
            if metadata.get(name) != old.object["metadata"][name]:
                raise Conflict(f"{kind} {key}: its {name} is {old.object['metadata'][name]}, not {metadata.get(name)}")

    def _keep(self, kind: Kind[Any], key: str, old: Entry, new: Object, owners: Any) -> Entry:
        if new == old.object and owners == old.owners:
            return old
        entry = self.store.put(kind, key, new, owners)
        metadata = new["metadata"]
        if (
            "deletionTimestamp" in metadata
            and not metadata.get("finalizers")
            and not metadata.get("deletionGracePeriodSeconds")
        ):
            self.store.drop(kind, key)
        return entry

    def delete(self, kind: Kind[Any], key: str, uid: str, grace: Seconds | None) -> None:
        """An object, or at first its grace.

        Raises:
            Vanished, Conflict: as the port says.
        """
        old = self.entry(kind, key)
        metadata = old.object["metadata"]
        if uid and uid != metadata["uid"]:
            raise Conflict(f"delete {kind} {key}: its uid is {metadata['uid']}, not {uid}")
        wait = rules.grace_of(old.object, grace) if kind == PODS else 0
        if not wait and not metadata.get("finalizers"):
            self.store.drop(kind, key)
            return
        going = "deletionTimestamp" in metadata
        if going and wait >= metadata.get("deletionGracePeriodSeconds", 0):
            return
        gone = {"deletionTimestamp": rules.stamp(self.now() + wait), "deletionGracePeriodSeconds": wait}
        self.store.put(kind, key, {**old.object, "metadata": {**metadata, **gone}}, old.owners)

    def bind(self, key: str, uid: str, node: str) -> None:
        """A pod to a node.

        Raises:
            Vanished, Conflict: as the port says.
        """
        old = self._pod(key, uid)
        spec, metadata = old.object["spec"], old.object["metadata"]
        if spec.get("nodeName"):
            raise Conflict(f"bind {key}: it is already assigned to node {spec['nodeName']!r}")
        if spec.get("schedulingGates") or "deletionTimestamp" in metadata:
            raise Conflict(
                f"bind {key}: it {'waits for a gate' if spec.get('schedulingGates') else 'is being deleted'}"
            )
        new = rules.bound(old.object, node, self.now())
        owners = changed_by(old.owners, Owner("kube-scheduler", applies=False), old.object, new)
        self.store.put(PODS, key, new, owners)

    def evict(self, key: str, uid: str, grace: Seconds | None) -> None:
        """A pod, if its budget allows.

        Raises:
            Vanished, Conflict, Throttled, Rejected: as the port says.
        """
        pod = self._pod(key, uid).object
        if rules.guards(pod):
            labels, space = pod["metadata"].get("labels") or {}, pod["metadata"]["namespace"]
            budgets = self.store.shelf(BUDGETS).entries
            mine = [
                (name, entry) for name, entry in sorted(budgets.items())
                if entry.object["metadata"]["namespace"] == space
                and rules.selects((entry.object.get("spec") or {}).get("selector"), labels)
            ]  # fmt: skip
            less = rules.spent((entry.object for _, entry in mine), pod, self.now())
            if less is not None:
                name, entry = mine[0]
                self.store.put(BUDGETS, name, less, entry.owners)
        self.delete(PODS, key, uid, grace)

    def _pod(self, key: str, uid: str) -> Entry:
        found = self.entry(PODS, key)
        if uid and found.object["metadata"]["uid"] != uid:
            raise Conflict(f"pod {key}: its uid is {found.object['metadata']['uid']}, not {uid}")
        return found

    def _name(self, stem: str) -> str:
        return stem + "".join(self._random.choices(LETTERS, k=SUFFIX)) if stem else ""

    def _uid(self) -> str:
        text = f"{self._random.getrandbits(128):032x}"
        return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-8{text[17:20]}-{text[20:]}"


def _key(metadata: Object) -> str:
    space = metadata.get("namespace", "")
    return f"{space}/{metadata['name']}" if space else str(metadata["name"])
