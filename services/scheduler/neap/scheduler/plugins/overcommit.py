"""Keep owned CPUs out of what an over-committed node sells.

    what it sells            (original − owned) · ratio + owned            the column fit sees as allocatable
    an owner of c CPUs fits  requested + c <= (original − owned − c) · ratio + owned + c
                             which is c · ratio <= (original − owned) · ratio − (requested − owned)

Whoever owns CPUs takes them out of what may be sold twice, so an owner costs its CPUs times the ratio; everybody else
is fit's business. Owners are dedicated pods, and Guaranteed pods with whole CPUs where the kubelet gives whole CPUs
away. Memory that is over-committed cannot be bound by the kubelet as well: such a node takes nobody.
Units: milli-cores, ratios. Use always, after numa, which may charge more CPUs than are asked for; where nothing is
over-committed it costs nothing.
Source: Katalyst NodeOvercommitment (rules); requirements 001-08; acceptance case AC-7.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from neap.common.model.qos import QosClass
from neap.common.model.resource import CPU
from neap.scheduler.core.choice.framework import Near, Parts, Plugin, Rule
from neap.scheduler.core.nodes.change import NodeChanged
from neap.scheduler.core.nodes.overcommit import CLASH, OWNED, PHYSICAL, PINNED, RATIO
from neap.scheduler.core.nodes.table import NodeTable
from neap.scheduler.core.nodes.view import Mask, Numbers, View
from neap.scheduler.core.pods.pod import Pod
from neap.scheduler.core.why.near import amount

WAKES: Final = frozenset({NodeChanged.FREE, NodeChanged.NODE_ADDED})


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Nothing to set: ratios are the nodes' own."""


def not_sold_twice(pod: Pod, view: View, _: Settings) -> Sequence[Rule]:
    """At most two rules; none where no node is over-committed (see `Overcommit.ask`)."""
    try:
        clash = view.column(CLASH)
    except KeyError:
        return ()
    rules = [Rule("memory over-committed and bound by the kubelet", ~clash, WAKES, lambda: _never(clash))]
    if _may_own(pod):
        short = _short(pod, view, pod.requests[CPU])
        rules.append(Rule("cores that are nobody else's", short <= 0, WAKES, lambda: _near(pod, view, short)))
    return rules


def still_fits(pod: Pod, table: NodeTable, row: int, _: Settings, given: Parts) -> Parts | str:
    """The same for the CPUs that are charged, where those are more than was asked for."""
    charged = given.charged.get(CPU, 0)
    if not table.overcommit.used or not _may_own(pod) or charged <= pod.requests[CPU]:
        return given
    short = float(_short(pod, table.view(np.array([row], dtype=np.intp)), charged)[0])
    return given if short <= 0 else f"{amount(CPU, short)} short of {amount(CPU, charged)} that are nobody else's"


def _may_own(pod: Pod) -> bool:
    return pod.requests.get(CPU, 0) > 0 and (pod.workload.qos is QosClass.DEDICATED or pod.wish.whole)


def _short(pod: Pod, view: View, cpu: float) -> Numbers:
    """Milli-cores that are missing; 0 or less where the pod fits, or does not own its CPUs. Shape (rows,)."""
    physical, owned, ratio = view.column(PHYSICAL), view.column(OWNED), view.column(RATIO)
    after = np.floor((physical - owned - cpu) * ratio + 1e-6) + owned  # sold to others and to former owners
    short = np.maximum(view.requested(CPU) - after, owned + cpu - physical)
    concerned: Mask = ~np.isnan(physical)
    if pod.workload.qos is not QosClass.DEDICATED:
        concerned = concerned & view.column(PINNED)
    return np.where(concerned, short, 0.0)


def _never(clash: Mask) -> Near:
    return Near(np.where(clash, np.inf, 0.0), lambda _: "over-commits memory that its kubelet binds")


def _near(pod: Pod, view: View, short: Numbers) -> Near:
    cpu, ratio = pod.requests[CPU], view.column(RATIO)

    def tell(row: int) -> str:
        free = cpu * ratio[row] - short[row]
        return f"sells {amount(CPU, free)} more at {ratio[row]:g} for one, an owner of {amount(CPU, cpu)} costs {amount(CPU, cpu * ratio[row])}"

    return Near(np.maximum(short, 0.0), tell)


PLUGIN: Final = Plugin(settings=Settings, wakes=WAKES, filter=not_sold_twice, reserve=still_fits)
