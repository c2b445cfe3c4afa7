"""A workload in the queue, with everything plugins ask about worked out once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias

from neap.common.model.gpu import GpuAsk, gpu_asks
from neap.common.model.qos import QosClass
from neap.common.model.resource import Resources
from neap.common.model.workload import Workload
from neap.common.units import Seconds
from neap.scheduler.core.pods.alike import REMEMBERED, common, one_of
from neap.scheduler.core.pods.estimate import Estimate, Guess, estimate
from neap.scheduler.core.pods.numa_wish import NO_WISH, NumaWish, numa_wish

Shape: TypeAlias = tuple[Any, ...]

# Labels that differ from one replica to the next; they would make every pod a lane of its own.
OF_ONE_POD: Final = frozenset(
    {"statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index", "batch.kubernetes.io/job-completion-index"}
)
LOAD_AWARE: Final = "neap.io/load-aware"  # annotation: "true" where only pods that ask are placed by load


@dataclass(frozen=True, slots=True, eq=False)
class Pod:
    """One attempt of one workload.

    Pods of one `shape` and one answer of `NodeTable.ask` get the same masks and scores on every node. Pods of one
    `lane` get the same answers, whatever happens: they wait in one line. So do the members of a gang.
    """

    workload: Workload
    submitted_at: Seconds
    requests: Resources
    asks: tuple[GpuAsk, ...]
    estimate: Estimate
    guest: bool
    shape: Shape
    lane: Shape
    wish: NumaWish = NO_WISH

    @property
    def uid(self) -> str:
        """Of the workload."""
        return self.workload.uid


def gang_lane(workload: Workload) -> Shape:
    """The line of a gang: its members agree about everything the gang says; who says otherwise is another gang."""
    return ("gang", workload.namespace, workload.gang)


def pod_of(
    workload: Workload, submitted_at: Seconds = 0.0, guess: Guess | None = None, expected: Estimate | None = None
) -> Pod:
    """A pod of an admitted workload; `expected` if more is known of its use than a guess (NodeTable.expected).

    Raises:
        InputError: its GPU ask or its enhancement breaks a rule (admission refuses it before).
    """
    expected = expected or estimate(workload, guess or Guess())
    alike = common(workload)
    kind = _kind(workload, expected) if alike is None else _kind_of(alike, expected)
    return Pod(workload, submitted_at, kind.requests, kind.asks, expected, kind.guest, kind.shape, kind.lane, kind.wish)


class _Kind(NamedTuple):
    """What of a pod is the same for all that are like it."""

    requests: Resources
    asks: tuple[GpuAsk, ...]
    guest: bool
    shape: Shape
    lane: Shape
    wish: NumaWish


@lru_cache(maxsize=REMEMBERED)
def _kind_of(alike: bytes, expected: Estimate) -> _Kind:
    return _kind(one_of(alike), expected)


def _kind(workload: Workload, expected: Estimate) -> _Kind:
    requests, asks = workload.requests, gpu_asks(workload)
    wish, constraints = numa_wish(workload), workload.constraints
    shape = (
        workload.qos,
        tuple(sorted(requests.items())),
        tuple((ask.cards, ask.core, ask.memory_mib) for ask in asks),
        expected,
        tuple(sorted(workload.node_selector.items())),
        tuple(sorted(set(workload.gpu_models))),
        (
            constraints.tolerations,
            constraints.node_required,
            constraints.node_preferred,
        ),  # the rest: core/nodes/domains.py
        workload.devices,
        wish,
        workload.annotations.get(LOAD_AWARE) == "true",
    )
    others = (
        constraints,
        tuple(sorted(workload.images)),
        tuple(sorted(set(workload.datasets))),
    )  # what keepers answer by
    labels = tuple(sorted((key, value) for key, value in workload.labels.items() if key not in OF_ONE_POD))
    return _Kind(
        requests,
        asks,
        workload.qos is QosClass.RECLAIMED,
        shape,
        (shape, others, workload.namespace, labels) if workload.gang is None else gang_lane(workload),
        wish,
    )
