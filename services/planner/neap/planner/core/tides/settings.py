"""Settings of tides: the rule of a pool (neap.foresight.tide_rule), and whether it has one."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from neap.common.units import DAY, MINUTE, Seconds
from neap.foresight.tide_rule import Rule


class TideSettings(Rule, frozen=True, kw_only=True):
    """Of one pool: neap policy set --room planner --tier pool=web --patch tide.enabled=true."""

    enabled: bool = False  # whether nodes of the pool change sides
    period: Annotated[Seconds, Meta(gt=0)] = MINUTE  # between two passes
    repeat: Annotated[Seconds, Meta(gt=0)] = 10 * MINUTE  # what did not change is said again; believed for an hour
    horizon: Annotated[Seconds, Meta(gt=0)] = DAY  # of the forecast that is asked for
    patience: Annotated[Seconds, Meta(ge=0)] = 30 * MINUTE  # without a forecast, until what was lent comes back
