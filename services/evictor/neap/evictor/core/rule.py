"""A rule: a plugin that knows one pressure. Who may die at all, and how many, is core/budget.py's business."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from neap.common.units import Seconds
from neap.evictor.core.view import Guest, Level, Victim, View


class RuleSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What every rule can be told."""

    reports: Annotated[int, msgspec.Meta(ge=1)] = 5  # reports in a row beyond the threshold before somebody leaves
    hold: Annotated[Seconds, msgspec.Meta(ge=0)] = 0.0  # and at least this long


@dataclass(frozen=True)
class Rule:
    """`pressure` says where its metrics stand; `rank` who would help with one of them, best first."""

    settings: type[RuleSettings]
    pressure: Callable[[View, Any], Sequence[Level]]
    rank: Callable[[View, Level, Sequence[Guest]], Sequence[Victim]]
