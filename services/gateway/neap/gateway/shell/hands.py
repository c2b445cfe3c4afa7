"""What the gateway does to the Kubernetes API: one call, or a few, per act; what is expected comes back as a value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from neap.common.bus.port import Bus
from neap.common.contract.catalogue import EXPLAIN
from neap.common.errors import Conflict, Denied, InputError, NoResponder, Rejected, Throttled, Unavailable, Vanished
from neap.common.kube.katalyst import NODE_MIRRORS
from neap.common.kube.objects import EVENTS, NODES, PODS, Metadata, Templated
from neap.common.kube.port import Kube, PatchStyle
from neap.common.model.explanation import ExplainRequest, Explanation
from neap.common.runtime.machine import Instruction
from neap.common.runtime.service import Effect
from neap.common.telemetry.log import get_logger
from neap.gateway.core.acts import (
    Accepted,
    AlreadyGone,
    AnswerObject,
    ApplyNode,
    AskWhy,
    Bind,
    Bound,
    Evict,
    Impossible,
    LostRace,
    MirrorNode,
    NotNow,
    ReadObject,
    Refused,
    ResizePod,
    Say,
    ScaleOwner,
    ShowEvent,
    SizeOwner,
    TaintNode,
    Written,
)
from neap.gateway.core.plans.sizes import NOTE, changes, note_for

FIELD_OWNER: Final = "neap-gateway"
TRIES: Final = 4  # at a read and a write over it


class Hands:
    """Carries out what the machine asks for. Errors that are not named here are failures, and may be tried again."""

    def __init__(self, kube: Kube, bus: Bus) -> None:
        self._kube, self._bus, self._log = kube, bus, get_logger("gateway")

    @property
    def effects(self) -> Mapping[type[Instruction], Effect]:
        """The service's table."""
        return {
            Bind: self.bind, Evict: self.evict, ResizePod: self.resize, ApplyNode: self.apply, MirrorNode: self.mirror,
            SizeOwner: self.size, ScaleOwner: self.scale, TaintNode: self.taint, ShowEvent: self.show, AnswerObject: self.answer, ReadObject: self.read,
            AskWhy: self.ask_why, Say: self.say,
        }  # fmt: skip

    async def bind(self, act: Bind) -> Bound | LostRace | Refused | AlreadyGone:
        """A conflict may be our own binding, whose answer was lost: the pod itself says."""
        try:
            await self._kube.bind(act.namespace, act.name, uid=act.uid, node=act.node)
        except Vanished:
            return AlreadyGone()
        except Rejected as error:
            return Refused(str(error))
        except Conflict as error:
            return await self._who_won(act, str(error))
        return Bound()

    async def _who_won(self, act: Bind, why: str) -> Bound | LostRace | AlreadyGone:
        try:
            pod = await self._kube.get(PODS, act.name, namespace=act.namespace)
        except Vanished:
            return AlreadyGone()
        if pod.metadata.uid != act.uid:
            return AlreadyGone()
        if pod.spec.node_name == act.node:
            return Bound()
        return LostRace(f"{pod.spec.node_name or 'nobody'} has it: {why}", pod.spec.node_name or "")

    async def evict(self, act: Evict) -> Accepted | NotNow | Impossible | AlreadyGone:
        """By the Eviction API, so that budgets hold."""
        try:
            await self._kube.evict(act.namespace, act.name, uid=act.uid, grace=act.grace)
        except Throttled as error:
            return NotNow(error.after, str(error))
        except (Vanished, Conflict):
            return AlreadyGone()
        except Rejected as error:
            return Impossible(str(error))
        return Accepted()

    async def resize(self, act: ResizePod) -> Written | Refused | Impossible | AlreadyGone:
        """In place; the uid says which pod is meant."""
        containers = [{"name": name, **changes} for name, changes in sorted(act.resources.items())]
        body = {"metadata": {"uid": act.uid}, "spec": {"containers": containers}}
        style = PatchStyle.STRATEGIC
        try:
            await self._kube.patch(PODS, act.name, body, namespace=act.namespace, subresource="resize", style=style)
        except Vanished as error:
            return await self._is_served(act, str(error))
        except Conflict:
            return AlreadyGone()
        except (Rejected, Denied) as error:
            return Refused(str(error))
        return Written()

    async def _is_served(self, act: ResizePod, why: str) -> Impossible | AlreadyGone:
        """A pod that is there and cannot be resized: the API server is older than that."""
        try:
            pod = await self._kube.get(PODS, act.name, namespace=act.namespace)
        except Vanished:
            return AlreadyGone()
        is_there = pod.metadata.uid == act.uid
        return Impossible(f"pods/resize is not served (Kubernetes 1.33 has it): {why}") if is_there else AlreadyGone()

    async def size(self, act: SizeOwner) -> Written | Refused | AlreadyGone:
        """What was read is written over, or read again.

        Raises:
            Unavailable: others changed it each time.
        """
        for _ in range(TRIES):
            try:
                owner: Templated = await self._kube.get(act.kind, act.name, namespace=act.namespace)
                body = _template_of(act, owner) if act.template else _note_of(act, owner)
                if body:
                    body["metadata"] = {**body.get("metadata", {}), "resourceVersion": owner.metadata.resource_version}
                    style = PatchStyle.STRATEGIC
                    await self._kube.patch(act.kind, act.name, body, namespace=act.namespace, style=style)
            except Vanished:
                return AlreadyGone()
            except (Rejected, Denied, InputError) as error:
                return Refused(str(error))
            except Conflict:
                continue
            return Written("changed" if body else "")
        raise Unavailable(f"{act.kind} {act.namespace}/{act.name}: somebody else changed it {TRIES} times")

    async def scale(self, act: ScaleOwner) -> Written | Refused | AlreadyGone:
        """The uid says which one is meant."""
        body = {"metadata": {"uid": act.uid}, "spec": {"replicas": act.replicas}}
        try:
            await self._kube.patch(act.kind, act.name, body, namespace=act.namespace, subresource="scale")
        except (Vanished, Conflict):
            return AlreadyGone()
        except (Rejected, Denied) as error:
            return Refused(str(error))
        return Written()

    async def apply(self, act: ApplyNode) -> Written | Refused | AlreadyGone:
        """Our amounts, and nothing else of the node's status."""
        body = {"metadata": {"name": act.node}, "status": {"capacity": act.amounts, "allocatable": act.amounts}}
        try:
            await self._kube.patch(NODES, act.node, body, subresource="status")
        except Vanished:
            return AlreadyGone()
        except Rejected as error:
            return Refused(str(error))
        return Written()

    async def mirror(self, act: MirrorNode) -> Written | Refused | AlreadyGone:
        """The status; where there is no mirror yet, the whole of it first."""
        try:
            try:
                await self._apply_status(act)
            except Vanished:
                whole = {"metadata": _named(act.mirror.metadata), "spec": act.mirror.spec}
                await self._kube.apply(NODE_MIRRORS, act.node, whole, manager=FIELD_OWNER, force=True)
                await self._apply_status(act)
        except Vanished:
            return AlreadyGone()  # the kind is not installed
        except Rejected as error:
            return Refused(str(error))
        return Written()

    async def _apply_status(self, act: MirrorNode) -> None:
        body = {"metadata": Metadata(name=act.node), "status": act.mirror.status}
        await self._kube.apply(NODE_MIRRORS, act.node, body, manager=FIELD_OWNER, subresource="status", force=True)

    async def taint(self, act: TaintNode) -> Written | AlreadyGone:
        """Taints are one list: read, changed and written over what was read; labels with them.

        Raises:
            Unavailable: others changed the node each time.
        """
        for _ in range(TRIES):
            try:
                node = await self._kube.get(NODES, act.node)
                taken = {*act.take, *(taint.key for taint in act.put)}
                taints = [taint for taint in node.spec.taints or () if taint.key not in taken]
                metadata: dict[str, Any] = {"resourceVersion": node.metadata.resource_version}
                metadata |= {"labels": dict(act.labels)} if act.labels else {}
                await self._kube.patch(NODES, act.node, {"metadata": metadata, "spec": {"taints": [*taints, *act.put]}})
            except Vanished:
                return AlreadyGone()
            except Conflict:
                continue
            return Written()
        raise Unavailable(f"taints of {act.node}: somebody else changed the node {TRIES} times")

    async def show(self, act: ShowEvent) -> None:
        """An Event is told, or not: nothing depends on it."""
        try:
            if act.more:
                await self._kube.patch(EVENTS, act.name, act.body, namespace=act.namespace)
            else:
                await self._kube.create(EVENTS, act.body, namespace=act.namespace)
        except (Conflict, Vanished, Rejected, Denied, Unavailable) as error:
            self._log.info("gateway.event.lost", name=f"{act.namespace}/{act.name}", why=str(error))

    async def answer(self, act: AnswerObject) -> Written | Refused | AlreadyGone:
        """The status of an object of ours."""
        body = {"status": act.status}
        try:
            await self._kube.patch(act.kind, act.name, body, namespace=act.namespace, subresource="status")
        except Vanished:
            return AlreadyGone()
        except Rejected as error:
            return Refused(str(error))
        return Written()

    async def read(self, act: ReadObject) -> Any:
        """The object."""
        try:
            return await self._kube.get(act.kind, act.name, namespace=act.namespace)
        except Vanished:
            return AlreadyGone()

    async def ask_why(self, act: AskWhy) -> Explanation | AlreadyGone:
        """The scheduler's answer; none is no matter."""
        try:
            return await self._bus.request(EXPLAIN, ExplainRequest(namespace=act.namespace, name=act.name))
        except (NoResponder, Unavailable):
            return AlreadyGone()

    async def say(self, act: Say) -> None:
        """A line of the log."""
        self._log.info(act.event, why=act.why)


def _template_of(act: SizeOwner, owner: Templated) -> dict[str, Any]:
    """Of the template the resources of the containers that differ; the note has no more to say then."""
    changed = changes(owner.spec.template.spec.containers, act.to)
    noted = NOTE in (owner.metadata.annotations or {})
    containers = [{"name": name, **change} for name, change in sorted(changed.items())]
    body: dict[str, Any] = {"spec": {"template": {"spec": {"containers": containers}}}} if containers else {}
    return body | ({"metadata": {"annotations": {NOTE: None}}} if noted else {})


def _note_of(act: SizeOwner, owner: Templated) -> dict[str, Any]:
    """The annotation, where it is to be another one."""
    text = note_for(owner.spec.template.spec.containers, act.to, act.version)
    has = (owner.metadata.annotations or {}).get(NOTE)
    return {} if has == text else {"metadata": {"annotations": {NOTE: text}}}


def _named(meta: Metadata) -> Metadata:
    return Metadata(name=meta.name, owner_references=meta.owner_references)
