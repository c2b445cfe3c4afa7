"""A rule: a plugin that knows one pressure. Who may leave at all, and how many, is not its business.

Thresholds are soft or hard. Beyond the soft one (`Level.crowded`) the node takes no more guests; beyond the other
(`Level.need`) somebody leaves, after as many reports and seconds as the settings say: the grace in which shrinking is
to help. A level that is `Level.hard` waits for nothing.
"""

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
    dry_run: bool = False  # only count and log who would leave; the node stays open as well


@dataclass(frozen=True)
class Rule:
    """`pressure` says where its metrics stand; `rank` who would help with one of them, best first."""

    settings: type[RuleSettings]
    pressure: Callable[[View, Any], Sequence[Level]]
    rank: Callable[[View, Level, Sequence[Guest]], Sequence[Victim]]
    saves_node: bool = False  # what is hard about it cannot wait for a bus that is away
