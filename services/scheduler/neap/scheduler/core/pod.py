"""A workload in the queue, with everything plugins ask about worked out once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from neap.common.model.enhancement import enhancement
from neap.common.model.gpu import GpuAsk, gpu_asks
from neap.common.model.qos import QosClass
from neap.common.model.resource import Resources
from neap.common.model.workload import Workload
from neap.common.units import Seconds
from neap.scheduler.core.estimate import Estimate, Guess, estimate

Shape: TypeAlias = tuple[Any, ...]

# Labels that differ from one replica to the next; they would make every pod a lane of its own.
OF_ONE_POD: Final = frozenset(
    {"statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index", "batch.kubernetes.io/job-completion-index"}
)


@dataclass(frozen=True, slots=True, eq=False)
class Pod:
    """One attempt of one workload.

    Pods of one `shape` and one answer of `NodeTable.ask` get the same masks and scores on every node. Pods of one
    `lane` get the same answers, whatever happens: they wait in one line.
    """

    workload: Workload
    submitted_at: Seconds
    requests: Resources
    asks: tuple[GpuAsk, ...]
    estimate: Estimate
    guest: bool
    shape: Shape
    lane: Shape

    @property
    def uid(self) -> str:
        """Of the workload."""
        return self.workload.uid


def pod_of(workload: Workload, submitted_at: Seconds = 0.0, guess: Guess | None = None) -> Pod:
    """A pod of an admitted workload.

    Raises:
        InputError: its GPU ask or its enhancement breaks a rule (admission refuses it before).
    """
    requests, asks, expected = workload.requests, gpu_asks(workload), estimate(workload, guess or Guess())
    wish = enhancement(workload.annotations, workload.qos)
    shape = (
        workload.qos,
        tuple(sorted(requests.items())),
        tuple((ask.cards, ask.core, ask.memory_mib) for ask in asks),
        expected,
        tuple(sorted(workload.node_selector.items())),
        tuple(sorted(set(workload.gpu_models))),
        workload.constraints,
        workload.devices,
        (wish.numa_binding, wish.numa_exclusive),
        tuple(sorted(set(workload.images))),
        tuple(sorted(set(workload.datasets))),
    )
    labels = tuple(sorted((key, value) for key, value in workload.labels.items() if key not in OF_ONE_POD))
    return Pod(
        workload,
        submitted_at,
        requests,
        asks,
        expected,
        workload.qos is QosClass.RECLAIMED,
        shape,
        (shape, workload.namespace, labels),
    )
