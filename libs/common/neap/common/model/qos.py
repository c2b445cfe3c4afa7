"""The four QoS classes, their enhancements, and which combinations are legal.

Class names and annotation keys are Katalyst's, so its manifests run unchanged; ours are accepted beside them.
Source: kubewharf/katalyst-api pkg/consts/qos.go (names); requirements 002-18 … 002-20 (table).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from neap.common.errors import InputError


class QosClass(StrEnum):
    """What quality of CPU a workload gets."""

    DEDICATED = "dedicated_cores"
    SHARED = "shared_cores"
    RECLAIMED = "reclaimed_cores"
    SYSTEM = "system_cores"


class KubeQos(StrEnum):
    """The class Kubernetes derives from requests and limits."""

    GUARANTEED = "Guaranteed"
    BURSTABLE = "Burstable"
    BEST_EFFORT = "BestEffort"


LEVEL_KEYS: Final = ("neap.io/qos-level", "katalyst.kubewharf.io/qos_level")

ALLOWED: Final[Mapping[QosClass, frozenset[KubeQos]]] = {
    QosClass.DEDICATED: frozenset({KubeQos.GUARANTEED}),
    QosClass.SHARED: frozenset({KubeQos.GUARANTEED, KubeQos.BURSTABLE}),
    QosClass.RECLAIMED: frozenset({KubeQos.BEST_EFFORT}),
    QosClass.SYSTEM: frozenset({KubeQos.BURSTABLE}),
}
DERIVED: Final[Mapping[KubeQos, QosClass]] = {
    KubeQos.GUARANTEED: QosClass.SHARED,
    KubeQos.BURSTABLE: QosClass.SHARED,
    KubeQos.BEST_EFFORT: QosClass.RECLAIMED,
}


def qos_class(annotations: Mapping[str, str], kube: KubeQos) -> QosClass:
    """The class a pod asks for; derived from Kubernetes' class when it asks for none.

    Raises:
        InputError: unknown value (never defaulted), two keys that disagree, or an illegal pair.
    """
    asked = {key: annotations[key] for key in LEVEL_KEYS if key in annotations}
    if not asked:
        return DERIVED[kube]
    if len(set(asked.values())) > 1:
        raise InputError(f"QoS level asked twice and differently: {asked}")
    key, value = next(iter(asked.items()))
    try:
        level = QosClass(value)
    except ValueError:
        known = ", ".join(QosClass)
        raise InputError(f"{key}={value[:64]!r} is no QoS level (known: {known})") from None
    if kube not in ALLOWED[level]:
        legal = " or ".join(sorted(ALLOWED[level]))
        raise InputError(f"{key}={level} needs Kubernetes QoS {legal}, the pod is {kube}")
    return level
