"""What a scheduling plugin is: columnar functions over the node table, and what un-rejects a pod.

    filter(pod, view, settings)  -> rules: per reason, the mask of rows that pass it, and what could change that
    score(pod, view, settings)   -> float64 0..100 per row, more is better; None: this pod is nothing to me
    reserve(pod, table, row, settings, given) -> the parts of the node the pod gets: what the plugins before have `given`
                                    and what this one adds; or the reason for which it gets none

All three compute row by row: on a View of some rows they give what they give for those rows on the whole table.
That is what lets the cycle keep evaluations and redo only rows that changed. Number and order of the rules depend
on the pod alone. Order and weight of plugins come from settings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import msgspec

from neap.common.model.placement import DeviceShare, GpuShare
from neap.common.model.resource import Resources
from neap.scheduler.core.nodes.change import NodeChanged
from neap.scheduler.core.nodes.table import NodeTable
from neap.scheduler.core.nodes.view import Mask, Numbers, View
from neap.scheduler.core.pods.pod import Pod

S = TypeVar("S", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Near:
    """How near rows came to passing a rule: what is missing, in the rule's unit, and a sentence with the numbers.

    `missing` is above 0 where a row does not pass; inf where no amount would help. Shape (rows,). In the sentences
    "{node}" stands for the row's name; a sentence without it has the name put before it. `change` says what would let
    the row pass: "1.5 more cores of cpu free on {node}"; without it the rule is said to need relaxing.
    """

    missing: Numbers
    tell: Callable[[int], str]  # of a row of the view: "has 6.5 of 32 cores of cpu free, 8 asked"
    change: Callable[[int], str] | None = None


class Rule(msgspec.Struct, frozen=True):
    """One reason for which nodes may be rejected: `passes` is True where they are not. `near` is asked by people only."""

    reason: str
    passes: Mask
    wakes: frozenset[NodeChanged] = frozenset()
    near: Callable[[], Near] | None = None


@dataclass(frozen=True, slots=True)
class Parts:
    """What reserve divides; `charged` beside what the pod requests, `why` in words for the decision.

    `prefer` names cards by index for gpu_share, ask by ask: as many for each container's ask, in their order, as it
    wants. They are taken if they are legal; else they are no more than a wish. Who finds it filled leaves it as it is.
    """

    gpus: tuple[GpuShare, ...] = ()
    prefer: tuple[int, ...] = ()
    numa: tuple[int, ...] = ()
    devices: tuple[DeviceShare, ...] = ()
    exclusive: bool = False
    charged: Resources = field(default_factory=dict)
    why: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plugin(Generic[S]):
    """The constant PLUGIN of a plugin file. `wakes` covers the wakes of all its rules and of its reserve."""

    settings: type[S]
    wakes: frozenset[NodeChanged] = frozenset()
    filter: Callable[[Pod, View, S], Sequence[Rule]] | None = None
    score: Callable[[Pod, View, S], Numbers | None] | None = None
    reserve: Callable[[Pod, NodeTable, int, S, Parts], Parts | str] | None = None


@dataclass(frozen=True)
class Policy:
    """A plugin as it is used: its name, its settings, its weight among the scores."""

    name: str
    plugin: Plugin[Any]
    weight: float = 1.0
    settings: Any = field(default=None)

    def __post_init__(self) -> None:
        if self.settings is None:
            object.__setattr__(self, "settings", self.plugin.settings())
