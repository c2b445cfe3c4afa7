"""What a pod wants of NUMA nodes, read once from its annotations and its containers."""

from __future__ import annotations

from typing import Final, NamedTuple

from neap.common.model.enhancement import enhancement
from neap.common.model.overcommit import owns_whole_cpus
from neap.common.model.qos import QosClass
from neap.common.model.workload import Workload


class NumaWish(NamedTuple):
    """See module docstring."""

    bound: bool = False  # it asks to be bound to some
    exclusive: bool = False  # and to have them alone
    whole: bool = False  # Guaranteed, in whole CPUs: a static kubelet binds it by itself
    spans: int = 1  # NUMA nodes it is divided over at least, evenly
    containers: tuple[tuple[tuple[str, int], ...], ...] = ()  # requests of each, where it matters


NO_WISH: Final = NumaWish()


def numa_wish(workload: Workload) -> NumaWish:
    """What this workload wants.

    Raises:
        InputError: its enhancement breaks a rule (admission refuses it before).
    """
    asked, whole = enhancement(workload.annotations, workload.qos), owns_whole_cpus(workload.containers)
    apart = (asked.numa_binding or whole) and len(workload.containers) > 1
    return NumaWish(
        asked.numa_binding,
        asked.numa_exclusive,
        whole and workload.qos is not QosClass.RECLAIMED,
        asked.numa_nodes,
        tuple(tuple(sorted(container.requests.items())) for container in workload.containers) if apart else (),
    )
