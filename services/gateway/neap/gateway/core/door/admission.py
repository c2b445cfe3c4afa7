"""The admission webhook, as a function: a review of a pod in, a verdict with a JSON patch out.

    mutate      the size its owner's pods get by now (plans/sizes.py), names and amounts (core/amounts.py), the
                scheduler's name, Katalyst's CPU pool
    validate    QoS class, enhancements, GPU shares, wishes: all that would otherwise leave a pod pending without a word

Only pods that concern neap are looked at: those with an annotation of neap's or Katalyst's, a resource of theirs, a
scheduler of theirs, or an owner with a size of its own. All others pass as they are, and so does what cannot be read: nobody's pod waits for neap. A patch
applied twice changes nothing more, so the API server may ask again. Nothing is written and nobody is told, so a dry run
is like any other.
Source: Kubernetes, "Dynamic Admission Control" (admission.k8s.io/v1); requirements 2.3, 2.4 (GPU rules).
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from neap.common.contract.channel import MALFORMED
from neap.common.errors import InputError
from neap.common.kube.objects import Narrow, OwnerReference, Pod
from neap.common.model.qos import LEVEL_KEYS, QosClass
from neap.gateway.core.door.amounts import containers_of, is_neaps, rewritten
from neap.gateway.core.door.rules import (
    ASKED_KEY,
    POOL_KEY,
    SIZED_KEY,
    annotation_notes,
    check,
    is_told,
    needs_neap,
    pool_asked,
)
from neap.gateway.core.plans.sizes import Note, sized

VERSION: Final = "admission.k8s.io/v1"
MIRROR: Final = "kubernetes.io/config.mirror"  # a static pod's image in the API: what the kubelet wrote stays
KUBE_SCHEDULER: Final = "default-scheduler"
MOST_WARNINGS: Final = 16
LONGEST_WARNING: Final = 250  # characters; Kubernetes cuts after 256
LONGEST_RECORD: Final = 1024  # characters of the annotation that keeps what was asked
# A flaw of ours in code that only looks is no reason to hold up somebody's pod.
FAULTS: Final = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


Noted: TypeAlias = Callable[[str, dict[str, str], tuple[OwnerReference, ...]], Note | None]


def nothing_noted(_: str, __: dict[str, str], ___: tuple[OwnerReference, ...]) -> None:
    """Pods are as their templates say."""


class AdmissionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Which pods are looked at, and what they get."""

    scheduler: str = "neap"  # schedulerName of pods that only neap can place
    taken_over: tuple[str, ...] = ("katalyst-scheduler",)  # schedulerNames that mean neap's
    left_alone: tuple[str, ...] = ("kube-system", "kube-public", "kube-node-lease", "neap-system")  # namespaces
    vendors: tuple[str, ...] = ("nvidia.com/", "amd.com/gpu", "gpu.intel.com/")  # whole cards, by other plugins


class _Resource(Narrow, frozen=True, kw_only=True):
    group: str = ""
    resource: str = ""


class _Request(Narrow, frozen=True, kw_only=True):
    uid: str = ""
    operation: str = ""
    namespace: str | None = None
    name: str | None = None
    sub_resource: str | None = None
    resource: _Resource = _Resource()
    dry_run: bool | None = None
    object: msgspec.Raw = msgspec.Raw(b"null")


class _Review(Narrow, frozen=True, kw_only=True):
    api_version: str = VERSION
    request: _Request


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of one request; `why` is empty where it passes."""

    uid: str = ""
    version: str = VERSION
    pod: str = ""  # namespace/name, as far as it has one yet
    why: str = ""
    patch: tuple[dict[str, Any], ...] = ()
    warnings: tuple[str, ...] = ()
    dry_run: bool = False
    fault: str = ""  # ours: it passed because we could not judge it

    @property
    def outcome(self) -> str:
        """In a word, for counting."""
        if self.fault:
            return "unread"
        return "denied" if self.why else "changed" if self.patch else "passed"


_REVIEWS: Final = msgspec.json.Decoder(_Review)
_PODS: Final = msgspec.json.Decoder(Pod)


def judge(body: bytes, settings: AdmissionSettings, *, changes: bool, note: Noted = nothing_noted) -> Verdict:
    """See module docstring; `changes`: whether a patch may be made of it; `note`: the size its owner's pods get.

    Never raises.
    """
    try:
        review = _REVIEWS.decode(body)
    except MALFORMED as error:
        return _unread(Verdict(), "the review", error)
    request = review.request
    plain = Verdict(
        uid=request.uid,
        version=review.api_version,
        pod=f"{request.namespace or ''}/{request.name or ''}",
        dry_run=bool(request.dry_run),
    )
    if (
        request.operation != "CREATE"
        or request.sub_resource
        or (request.resource.group, request.resource.resource) != ("", "pods")
        or request.namespace in settings.left_alone
    ):
        return plain
    try:
        pod = _PODS.decode(request.object)
        meta = pod.metadata
        size = note(request.namespace or "default", meta.labels or {}, meta.owner_references or ()) if changes else None
        if size is None and not concerns(pod, settings):
            return plain
        named = pod.metadata.name or f"{pod.metadata.generate_name}*"
        plain = msgspec.structs.replace(plain, pod=f"{request.namespace or ''}/{named}")
        document = msgspec.json.decode(request.object)
    except MALFORMED as error:
        return _unread(plain, "the pod", error)
    try:
        resized = _resized(document, size) if size is not None else []
        if not concerns(pod, settings):
            return msgspec.structs.replace(plain, patch=tuple(resized))
        return _judged(plain, document, request.namespace or "default", settings, changes=changes, before=resized)
    except InputError as error:
        return msgspec.structs.replace(plain, why=str(error))
    except FAULTS as error:
        return _unread(plain, "the pod", error)


def encode(verdict: Verdict) -> bytes:
    """As the API server reads it."""
    response: dict[str, Any] = {"uid": verdict.uid, "allowed": not verdict.why}
    if verdict.why:
        response["status"] = {"status": "Failure", "reason": "Invalid", "code": 422, "message": f"neap: {verdict.why}"}
    if verdict.patch:
        patch = base64.b64encode(msgspec.json.encode(verdict.patch)).decode()
        response |= {"patchType": "JSONPatch", "patch": patch}
    if verdict.warnings:
        response["warnings"] = [f"neap: {text}"[:LONGEST_WARNING] for text in verdict.warnings[:MOST_WARNINGS]]
    return msgspec.json.encode({"apiVersion": verdict.version, "kind": "AdmissionReview", "response": response})


def concerns(pod: Pod, settings: AdmissionSettings) -> bool:
    """Whether a pod says anything to neap."""
    annotations = pod.metadata.annotations or {}
    if MIRROR in annotations:
        return False
    return (
        pod.spec.scheduler_name in (settings.scheduler, *settings.taken_over)
        or any(is_told(key) for key in annotations)
        or any(
            is_neaps(kind)
            for container in (*pod.spec.containers, *(pod.spec.init_containers or ()))
            for amounts in (container.resources.requests, container.resources.limits)
            for kind in amounts or ()
        )
    )


def _unread(verdict: Verdict, what: str, error: Exception) -> Verdict:
    fault = f"{what} was not judged, it passes: {type(error).__name__}: {error!s:.120}"
    return msgspec.structs.replace(verdict, fault=fault, warnings=(fault,))


def _resized(pod: dict[str, Any], note: Note) -> list[dict[str, Any]]:
    """The size of a pod that is made later than its owner got another one, and by which patch."""
    patch: list[dict[str, Any]] = []
    for index, container in enumerate(pod["spec"].get("containers") or ()):
        resources = sized(container, note)
        if resources is not None and resources != (container.get("resources") or {}):
            container["resources"] = resources
            patch.append({"op": "add", "path": f"/spec/containers/{index}/resources", "value": dict(resources)})
    if patch:
        metadata = pod.setdefault("metadata", {})
        if not metadata.get("annotations"):
            metadata["annotations"] = {}
            patch.append({"op": "add", "path": "/metadata/annotations", "value": {}})
        patch.append(_annotate(metadata["annotations"], SIZED_KEY, note.version))
    return patch


def _judged(
    plain: Verdict,
    pod: dict[str, Any],
    namespace: str,
    settings: AdmissionSettings,
    *,
    changes: bool,
    before: Sequence[dict[str, Any]] = (),
) -> Verdict:
    """The verdict on a pod that concerns us. `pod` becomes what the patch makes of it; `before`: what was patched yet."""
    said: list[str] = []
    patch = [*before, *_changed(pod, settings, said)] if changes else []
    spec, annotations = pod["spec"], pod.get("metadata", {}).get("annotations") or {}
    ours = spec.get("schedulerName") == settings.scheduler
    check(pod, namespace, ours=ours, vendors=settings.vendors)
    if changes and not ours and needs_neap(annotations, spec):
        said.append(f"scheduled by {spec.get('schedulerName') or KUBE_SCHEDULER}, which does not know what neap lends")
    if changes:
        said += annotation_notes(annotations)
    return msgspec.structs.replace(plain, patch=tuple(patch), warnings=tuple(dict.fromkeys(said)))


def _changed(pod: dict[str, Any], settings: AdmissionSettings, said: list[str]) -> list[dict[str, Any]]:
    """Change a pod, and say by which patch."""
    spec, patch = pod["spec"], list[dict[str, Any]]()
    annotations = pod.get("metadata", {}).get("annotations") or {}
    lend = {annotations[key] for key in LEVEL_KEYS if key in annotations} == {QosClass.RECLAIMED.value}
    asked: list[str] = []
    for path, container in containers_of(spec):
        before = container.get("resources") or {}
        after = rewritten(before, lend=lend, where=f"container {container['name']}", said=said)
        if after != before:
            patch.append({"op": "add", "path": f"{path}/resources", "value": after})
            container["resources"] = after
            asked.append(_record(container["name"], before))
    if lend and asked and ASKED_KEY not in annotations:
        patch.append(_annotate(annotations, ASKED_KEY, "; ".join(asked)[:LONGEST_RECORD]))
    if pool := pool_asked(annotations):
        patch.append(_annotate(annotations, POOL_KEY, pool))
    if _is_placed_by_us(annotations, spec, settings, said):
        patch.append({"op": "add", "path": "/spec/schedulerName", "value": settings.scheduler})
        spec["schedulerName"] = settings.scheduler
    return patch


def _is_placed_by_us(
    annotations: Mapping[str, str], spec: Mapping[str, Any], settings: AdmissionSettings, said: list[str]
) -> bool:
    """Whether a pod's scheduler becomes ours: where only we can place it, and nobody else has or was asked to."""
    name = spec.get("schedulerName") or KUBE_SCHEDULER
    if spec.get("nodeName"):
        return False
    if name in settings.taken_over and name != settings.scheduler:
        said.append(f"schedulerName {name} is read as {settings.scheduler}")
        return True
    return name == KUBE_SCHEDULER and needs_neap(annotations, spec)


def _annotate(annotations: dict[str, str], key: str, value: str) -> dict[str, Any]:
    annotations[key] = value
    escaped = key.replace("~", "~0").replace("/", "~1")
    return {"op": "add", "path": f"/metadata/annotations/{escaped}", "value": value}


def _record(name: str, resources: Mapping[str, Any]) -> str:
    """What a container asked for, in words that fit into an annotation."""
    sides: Sequence[tuple[str, str]] = (("requests", ""), ("limits", "limit "))
    parts = [f"{word}{kind}={amount}" for side, word in sides for kind, amount in (resources.get(side) or {}).items()]
    return f"{name}: {' '.join(parts)}"
