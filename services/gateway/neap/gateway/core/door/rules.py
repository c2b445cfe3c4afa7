"""What a pod that concerns neap may say: the rules the scheduler and the node will go by, told where it is made.

A pod for neap's scheduler is read just as the scheduler will read it (`model/manifest.py`), so what passes here is never
refused there. Of a pod for another scheduler only classes, amounts and enhancements are read: its affinity is that
scheduler's business.

    GPU shares    memory and compute together; compute alone only for whole cards, and those own all their memory;
                  memory in MiB, never as a ratio of a card; n cards are n·100 % of compute; neap's shares and a
                  vendor's whole cards never in one pod
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from neap.common.contract.lawful import common_flaw
from neap.common.errors import InputError
from neap.common.model.annotated import DEVICES, GANG
from neap.common.model.bounds import check_annotations
from neap.common.model.enhancement import FLAGS, MEMORY_KEY, NODES_KEY
from neap.common.model.gpu import gpu_asks
from neap.common.model.manifest import workload_of_pod
from neap.common.model.oom import OOM_KEY
from neap.common.model.qos import LEVEL_KEYS, QosClass
from neap.common.model.resource import ALIASES, CPU, GPU_CORE, GPU_MEMORY, MEMORY, RECLAIMED_CPU, RECLAIMED_MEMORY
from neap.common.model.workload import Workload
from neap.gateway.core.door.amounts import KNOWN, OURS, containers_of, is_neaps, kinds_of

SIZED_KEY: Final = "neap.io/sized"  # written by us: by which recommendation a pod has its size
ASKED_KEY: Final = "neap.io/asked"  # what a pod asked for before it was lent instead
POOL_KEY: Final = "neap.io/cpuset-pool"
OVERUSE_KEY: Final = "neap.io/memory-overuse"
CPU_KEY: Final = "katalyst.kubewharf.io/cpu_enhancement"
NETWORK_KEY: Final = "katalyst.kubewharf.io/network_enhancement"
THEIRS: Final = "katalyst.kubewharf.io/"
PLACED_BY_US: Final = frozenset({RECLAIMED_CPU, RECLAIMED_MEMORY, GPU_CORE, GPU_MEMORY})
PLACING_KEYS: Final = frozenset({GANG, DEVICES, NODES_KEY, *FLAGS.values()})
FOLLOWED: Final[Mapping[str, frozenset[str]]] = {  # what neap does of Katalyst's enhancements
    MEMORY_KEY: frozenset({*FLAGS, "rss_overuse_threshold", "oom_priority"}),
    CPU_KEY: frozenset({"cpuset_pool"}),
    NETWORK_KEY: frozenset(),
}
AMOUNTS: Final = ("containers", "initContainers", "overhead")
NAME: Final = "pod"  # of a pod that gets its name later


def is_told(annotation: str) -> bool:
    """Whether an annotation speaks to neap."""
    return annotation.startswith((OURS, THEIRS)) and annotation not in (ASKED_KEY, SIZED_KEY)


def needs_neap(annotations: Mapping[str, str], spec: Mapping[str, Any]) -> bool:
    """Whether only neap's scheduler can place such a pod well.

    Raises:
        InputError: an enhancement is no JSON object.
    """
    level = {annotations[key] for key in LEVEL_KEYS if key in annotations}
    return (
        not level.isdisjoint({QosClass.RECLAIMED.value, QosClass.DEDICATED.value})
        or not PLACING_KEYS.isdisjoint(annotations)
        or any(_enhancements(annotations, MEMORY_KEY).get(flag) == "true" for flag in FLAGS)
        or any(ALIASES.get(kind, kind) in PLACED_BY_US for _, one in containers_of(spec) for kind in kinds_of(one))
    )


def pool_asked(annotations: Mapping[str, str]) -> str:
    """The CPU pool asked for under Katalyst's name only."""
    pool = _enhancements(annotations, CPU_KEY).get("cpuset_pool", "")
    return pool if isinstance(pool, str) and POOL_KEY not in annotations else ""


def annotation_notes(annotations: Mapping[str, str]) -> list[str]:
    """What a pod wishes that nobody here will do."""
    return [
        f"{wish} of {key} is not followed by neap"
        for key, followed in FOLLOWED.items()
        for wish in sorted(_enhancements(annotations, key))
        if wish not in followed
    ]


def check(pod: Mapping[str, Any], namespace: str, *, ours: bool, vendors: Sequence[str]) -> None:
    """Whether all of it holds; see module docstring.

    Raises:
        InputError: names what does not, and the values.
    """
    metadata, spec = pod.get("metadata") or {}, pod["spec"]
    annotations = metadata.get("annotations") or {}
    check_annotations(annotations)
    _check_enhancements(annotations)
    for flaw in _kinds_flaws(spec, vendors):
        raise InputError(flaw)
    workload = read(pod, namespace, ours=ours)
    for flaw in _class_flaws(workload, spec):
        raise InputError(flaw)
    gpu_asks(workload)
    if ours and (flaw := common_flaw(workload)):
        raise InputError(flaw)


def read(pod: Mapping[str, Any], namespace: str, *, ours: bool = True) -> Workload:
    """A pod as the scheduler will read it, wherever it is bound and whatever gates hold it back.

    Raises:
        InputError: it would not.
    """
    metadata, spec = pod.get("metadata") or {}, pod["spec"]
    wishes = (
        (*AMOUNTS, "nodeSelector", "priority", "priorityClassName", "tolerations", "affinity", "topologySpreadConstraints")
        if ours
        else AMOUNTS
    )  # fmt: skip
    shown = {
        "metadata": {
            "name": (metadata.get("name") or NAME) if ours else NAME,
            "namespace": namespace,
            "labels": metadata.get("labels") or {},
            "annotations": metadata.get("annotations") or {},
        },
        "spec": {wish: spec[wish] for wish in wishes if spec.get(wish) is not None},
    }
    try:
        return workload_of_pod(shown, where=NAME)
    except InputError as error:
        raise InputError(str(error).removeprefix(f"{NAME}: ").removeprefix(f"pod {namespace}/{NAME}: ")) from None


def _kinds_flaws(spec: Mapping[str, Any], vendors: Sequence[str]) -> Iterator[str]:
    shares, whole = "", ""
    for _, container in containers_of(spec):
        where = f"container {container['name']}"
        kinds = kinds_of(container)
        seen: dict[str, str] = {}
        for kind in kinds:
            if kind.startswith(OURS) and "ratio" in kind:
                yield f"{where}: {kind} is not counted: card memory is asked in MiB, as {GPU_MEMORY}"
            if kind.startswith(OURS) and kind not in KNOWN:
                yield f"{where}: {kind} is no resource of neap (known: {', '.join(sorted(KNOWN))})"
            first = seen.setdefault(ALIASES.get(kind, kind), kind)
            if first != kind and is_neaps(kind) and is_neaps(first):
                yield f"{where}: {first} and {kind} are one resource under two names"
            if kind in (GPU_CORE, GPU_MEMORY):
                shares = f"{kind} of {where}"
            elif kind.startswith(tuple(vendors)):
                whole = f"{kind} of {where}"
    if shares and whole:
        yield f"{shares} and {whole} in one pod: either shares of cards or a vendor's whole cards"


def _class_flaws(workload: Workload, spec: Mapping[str, Any]) -> Iterator[str]:
    own = [kind for kind in (CPU, MEMORY) if workload.requests.get(kind)]
    lent = [kind for kind in (RECLAIMED_CPU, RECLAIMED_MEMORY) if workload.requests.get(kind)]
    if lent and workload.qos is not QosClass.RECLAIMED:
        yield (
            f"{workload.qos} may not ask for {', '.join(lent)}; only {LEVEL_KEYS[0]}={QosClass.RECLAIMED} borrows"
            + (f", and asks for no {', '.join(own)}" if own else "")
        )
    if own and workload.qos is QosClass.RECLAIMED:
        yield f"{QosClass.RECLAIMED} may not own {', '.join(own)}, as spec.overhead of its runtime class wants"
    if workload.qos is QosClass.DEDICATED and not workload.requests.get(CPU):
        yield f"{QosClass.DEDICATED} asks for no {CPU}"
    whole = (spec.get("resources") or {}) if workload.qos is QosClass.RECLAIMED else {}
    if any(kind in (side or {}) for side in (whole.get("requests"), whole.get("limits")) for kind in (CPU, MEMORY)):
        yield f"spec.resources asks {CPU} or {MEMORY} for the whole pod: nothing is lent that way, ask per container"


def _check_enhancements(annotations: Mapping[str, str]) -> None:
    for key in FOLLOWED:
        if key in annotations:
            _enhancement_object(annotations, key)
    memory = _enhancements(annotations, MEMORY_KEY)
    for place, text in ((f"oom_priority of {MEMORY_KEY}", memory.get("oom_priority")), (OOM_KEY, annotations.get(OOM_KEY))):  # fmt: skip
        if text is not None and not _is_number(text, whole=True):
            raise InputError(f"{place}={str(text)[:64]!r} is no whole number")
    for place, text in ((f"rss_overuse_threshold of {MEMORY_KEY}", memory.get("rss_overuse_threshold")), (OVERUSE_KEY, annotations.get(OVERUSE_KEY))):  # fmt: skip
        if text is not None and not _is_number(text, whole=False):
            raise InputError(f"{place}={str(text)[:64]!r} is no number above 0")
    pool = _enhancements(annotations, CPU_KEY).get("cpuset_pool")
    if pool is not None and not isinstance(pool, str):
        raise InputError(f"cpuset_pool of {CPU_KEY}={str(pool)[:64]!r} is no name")
    if pool is not None and annotations.get(POOL_KEY, pool) != pool:
        raise InputError(
            f"CPU pool asked twice and differently: {POOL_KEY}={annotations[POOL_KEY][:64]!r}, {pool[:64]!r}"
        )


def _is_number(text: Any, *, whole: bool) -> bool:
    digits = str(text)
    if not digits.isascii() or len(digits) > 16:
        return False
    if whole:
        return digits.removeprefix("-").isdecimal()
    return digits.replace(".", "", 1).isdecimal() and float(digits) > 0


def _enhancement_object(annotations: Mapping[str, str], key: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(annotations[key], type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise InputError(f"{key}={annotations[key][:64]!r} is no JSON object") from None


def _enhancements(annotations: Mapping[str, str], key: str) -> dict[str, Any]:
    return _enhancement_object(annotations, key) if key in annotations else {}
