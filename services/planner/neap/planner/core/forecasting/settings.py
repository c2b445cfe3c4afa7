"""Settings of forecasts."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from neap.common.units import DAY, HOUR, Seconds


class Forecasting(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often, how many, how far."""

    tick: Annotated[Seconds, Meta(gt=0, le=600)] = 2.0  # between two looks at what is due
    at_once: Annotated[int, Meta(ge=1, le=1000)] = (
        4  # forecasts made at one tick, 20 ms each: the machine waits for them
    )
    every: Annotated[Seconds, Meta(ge=60)] = HOUR  # a series is forecast again
    least: Annotated[Seconds, Meta(ge=600)] = DAY  # ahead, whatever is wished for
    forget: Annotated[Seconds, Meta(ge=600)] = 2 * DAY  # a series nobody asked for during that is not forecast any more
    most: Annotated[int, Meta(ge=1, le=100_000)] = 10_000  # series
    patience: Annotated[Seconds, Meta(ge=600)] = 3 * HOUR  # a forecast made longer ago does not drive decisions
    trials: Annotated[int, Meta(ge=1)] = 8  # forecasts that must be over before their record can switch off what comes
