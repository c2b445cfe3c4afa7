"""Neap's own kinds and Katalyst's, as people apply them: read into messages of the bus, and answered in their status.

    ServiceProfile, ServiceProfileDescriptor                PROFILES
    NodePoolPolicy, GpuPool, AdminQoSConfiguration          POLICY, an edition of a document
    NodeOvercommitConfig                                    ratios of the nodes of a pool; those nodes are read again

What an object says it goes on saying until it is changed or deleted: what the bus has of ours and no object says is
taken back, once every kind was read to its end. Objects are few, and kept whole. How each kind is read: kinds.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from neap.common.contract.catalogue import POLICY, PROFILES
from neap.common.errors import InputError
from neap.common.kube.katalyst import OVERCOMMIT_CONFIGS, OVERCOMMIT_POOL
from neap.common.kube.kind import Kind
from neap.common.kube.objects import NODES
from neap.common.model.policy import PolicyDocument
from neap.common.model.profile import ServiceProfile
from neap.common.runtime.machine import Count, Delete, Instruction, Put
from neap.common.units import Ratio, Seconds
from neap.gateway.core.acts import AnswerObject, ReadObject
from neap.gateway.core.kinds.reading import Reading
from neap.gateway.core.kinds.table import KINDS, edited, ratios, read, verdict
from neap.gateway.core.nodes.views import SOURCE

MOST_MATCHED = 5000  # nodes named in a status


class Objects:
    """See module docstring."""

    def __init__(self) -> None:
        self._objects: dict[tuple[Kind[Any], str], Any] = {}
        self._readings: dict[tuple[Kind[Any], str], Reading] = {}
        self._documents: dict[tuple[str, str], PolicyDocument] = {}  # room, name
        self._profiles: dict[str, bytes] = {}  # by key, of the gateway, but for when they were said
        self._pools: dict[str, str] = {}  # node -> its pool of over-commitment
        self._unread = set(KINDS)

    # -- what the bus has ----------------------------------------------------------------------------------------------

    def hear(self, message: PolicyDocument | ServiceProfile) -> None:
        """What is stored."""
        if isinstance(message, PolicyDocument):
            self._documents[message.room, message.name] = message
        elif message.source == SOURCE:
            self._profiles[message.key] = _but_for_time(message)
        else:
            self._profiles.pop(message.key, None)

    def lost(self, tokens: Mapping[str, str]) -> None:
        """It is stored no more."""
        if "room" in tokens:
            self._documents.pop((tokens["room"], tokens["name"]), None)
        else:
            self._profiles.pop("/".join(tokens.values()), None)

    # -- what the API has ----------------------------------------------------------------------------------------------

    def see(self, kind: Kind[Any], value: Any, at: Seconds) -> None:
        """An object is there, or changed."""
        key = (kind, value.metadata.key)
        self._objects[key], self._readings[key] = value, read(kind, value, at)

    def remove(self, kind: Kind[Any], name: str) -> None:
        """It is deleted."""
        self._objects.pop((kind, name), None)
        self._readings.pop((kind, name), None)

    def complete(self, kind: Kind[Any]) -> None:
        """All objects of a kind are known."""
        self._unread.discard(kind)

    def ratios(self, node: str, labels: Mapping[str, str]) -> dict[str, Ratio]:
        """Over-commitment of a node with these labels, which is remembered to be of its pool."""
        pool = labels.get(OVERCOMMIT_POOL)
        if pool is not None:
            self._pools[node] = pool
        else:
            self._pools.pop(node, None)
        return ratios(self._of(OVERCOMMIT_CONFIGS), labels)

    def forget_node(self, node: str) -> None:
        """It is in no pool any more."""
        self._pools.pop(node, None)

    def nodes_of(self, value: Any) -> list[str]:
        """The nodes that an over-commitment is for."""
        pool = value.spec.node_overcommit_selector_val
        return sorted(node for node, mine in self._pools.items() if mine == pool)

    # -- what is to be said --------------------------------------------------------------------------------------------

    def settle(self, at: Seconds, kind: Kind[Any] | None = None) -> list[Instruction]:
        """Everything that the bus and the objects' status lack; of one kind, or of all."""
        said: list[Instruction] = []
        for (mine, key), value in list(self._objects.items()):
            if kind is None or mine == kind:
                said += self._say(mine, key, value, at)
        return said + self._take_back()

    def reread(self, kind: Kind[Any], value: Any) -> list[Instruction]:
        """Nodes that are something else since this object changed."""
        if kind != OVERCOMMIT_CONFIGS or value is None:
            return []
        return [ReadObject(NODES, "", node) for node in self.nodes_of(value)]

    def object(self, kind: Kind[Any], key: str) -> Any:
        """As it was last seen; None if it is not known."""
        return self._objects.get((kind, key))

    def _of(self, kind: Kind[Any]) -> list[Any]:
        return [value for (mine, _), value in self._objects.items() if mine == kind]

    def _say(self, kind: Kind[Any], key: str, value: Any, at: Seconds) -> list[Instruction]:
        reading = self._readings[kind, key]
        said: list[Instruction] = []
        for profile in reading.profiles:
            if self._profiles.get(profile.key) == _but_for_time(profile):
                continue
            try:
                namespace, owner, name = profile.key.split("/", 2)
                address = PROFILES.at(namespace=namespace, kind=owner, name=name)
            except (InputError, ValueError) as error:
                reading = self._readings[kind, key] = Reading(flaw=f"{profile.key[:64]}: {error}")
                break
            self._profiles[profile.key] = _but_for_time(profile)
            said.append(Put(address, profile))
        for one in reading.said:
            document = edited(self._documents.get((one.room, one.name)), one)
            if document is not None:
                self._documents[one.room, one.name] = document
                said.append(Put(POLICY.at(room=one.room, name=one.name), document))
        if said:
            said.append(Count("neap_gateway_objects_total", labels={"kind": kind.name}))
        return said + self._answer(kind, key, value, reading, at)

    def _answer(self, kind: Kind[Any], key: str, value: Any, reading: Reading, at: Seconds) -> list[Instruction]:
        before = getattr(value.status, "conditions", None) or ()
        now = verdict(reading, value.metadata, at, before)
        status: dict[str, Any] = {
            "conditions": msgspec.to_builtins(now),
            "observedGeneration": value.metadata.generation,
        }
        has = msgspec.to_builtins(value.status)
        if kind == OVERCOMMIT_CONFIGS:
            status["matchedNodeList"] = self.nodes_of(value)[:MOST_MATCHED]
        if all(has.get(field, _nothing(told)) == told for field, told in status.items()):
            return []
        namespace, _, name = key.rpartition("/")
        return [AnswerObject(kind, namespace, name, status)]

    def _take_back(self) -> list[Instruction]:
        """What nobody says any more; nothing while an object is paused, for what that one said stays."""
        if self._unread or any(reading.hold or reading.flaw for reading in self._readings.values()):
            return []
        documents = {(one.room, one.name) for reading in self._readings.values() for one in reading.said}
        profiles = {one.key for reading in self._readings.values() for one in reading.profiles}
        said: list[Instruction] = []
        for key in sorted(set(self._documents) - documents):
            if self._documents[key].source == SOURCE:
                del self._documents[key]
                said.append(Delete(POLICY.at(room=key[0], name=key[1])))
        for name in sorted(set(self._profiles) - profiles):
            del self._profiles[name]
            namespace, owner, service = name.split("/", 2)
            said.append(Delete(PROFILES.at(namespace=namespace, kind=owner, name=service)))
        return said


def _but_for_time(profile: ServiceProfile) -> bytes:
    return msgspec.json.encode(msgspec.structs.replace(profile, at=0.0))


def _nothing(told: Any) -> Any:
    """What an empty field is not written as."""
    return type(told)()
