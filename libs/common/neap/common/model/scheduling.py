"""Where a pod may run and would like to, in Kubernetes' own terms, and with whom it starts.

Everything is hashable: pods with equal wishes are one shape to the scheduler.
Source: Kubernetes API, Pod spec (affinity, tolerations, topologySpreadConstraints); gangs: scheduler-plugins PodGroup.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec


class Operator(StrEnum):
    """Of one expression."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"
    GREATER = "Gt"
    LESS = "Lt"


class Effect(StrEnum):
    """What a taint does to pods that do not tolerate it."""

    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class Expression(msgspec.Struct, frozen=True, kw_only=True):
    """One condition on labels."""

    key: str
    operator: Operator = Operator.EXISTS
    values: tuple[str, ...] = ()


NOBODY: Final = Expression(key="", operator=Operator.IN)  # a selector that selects no pod; an empty one selects all


class Taint(msgspec.Struct, frozen=True, kw_only=True):
    """A node keeps pods away; `qos` names the classes it means (empty: all)."""

    key: str
    value: str = ""
    effect: Effect = Effect.NO_SCHEDULE
    qos: tuple[str, ...] = ()


class Toleration(msgspec.Struct, frozen=True, kw_only=True):
    """A pod does not mind a taint; an empty key or effect means any."""

    key: str = ""
    exists: bool = False  # operator Exists; else the value must be equal
    value: str = ""
    effect: str = ""


class NodeTerm(msgspec.Struct, frozen=True, kw_only=True):
    """All expressions hold; `names`: of the node's name. `weight` 1..100 where it is a preference."""

    expressions: tuple[Expression, ...] = ()
    names: tuple[Expression, ...] = ()
    weight: int = 0


class PodTerm(msgspec.Struct, frozen=True, kw_only=True):
    """Pods with these labels in these namespaces (empty: the pod's own), in the same domain of `topology`."""

    topology: str  # key of a node label
    selector: tuple[Expression, ...] = ()
    namespaces: tuple[str, ...] = ()
    weight: int = 0


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Pods of the pod's namespace with these labels (none: no pod) over the domains of `topology`, `skew` apart at most."""

    topology: str
    skew: int = 1
    hard: bool = True  # DoNotSchedule; else ScheduleAnyway
    selector: tuple[Expression, ...] = ()
    least_domains: int = 1


class Constraints(msgspec.Struct, frozen=True, kw_only=True):
    """All of it; required node terms are alternatives, everything else holds together."""

    tolerations: tuple[Toleration, ...] = ()
    node_required: tuple[NodeTerm, ...] = ()
    node_preferred: tuple[NodeTerm, ...] = ()
    near: tuple[PodTerm, ...] = ()  # required pod affinity
    near_preferred: tuple[PodTerm, ...] = ()
    apart: tuple[PodTerm, ...] = ()  # required pod anti-affinity
    apart_preferred: tuple[PodTerm, ...] = ()
    spread: tuple[Spread, ...] = ()


class Gang(msgspec.Struct, frozen=True, kw_only=True):
    """Pods that start together or not at all, by name within a namespace."""

    name: str
    least: int  # members that must find a node before any of them is placed
    domain: str = ""  # key of a node label; all members in one domain of it
    hard: bool = True  # in one domain or not at all; else preferably
