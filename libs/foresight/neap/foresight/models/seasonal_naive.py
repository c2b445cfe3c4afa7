"""As yesterday at the same time.

f(o + h) = last known value at or before o + h − q·P, with P one day and q the fewest days that lead before o

An outage yesterday is no reason to expect one today: there the value before it counts. Also for every period that was
found in the series beside the day. Cost: O(n).
Source: Hyndman & Athanasopoulos, Forecasting: Principles and Practice (3rd ed.), 5.2, seasonal naive method.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from neap.foresight.past import Indices, Past, Paths, last_known
from neap.foresight.series import Values


class SeasonalNaive:
    """See module docstring."""

    def paths(self, past: Past, origins: Indices, leads: Indices) -> Paths:
        """See Model."""
        told = {"seasonal naive": as_before(past, past.day, origins, leads)} if past.day else {}
        return told | {f"as {period} steps ago": as_before(past, period, origins, leads) for period in past.periods}


def as_before(past: Past, period: int, origins: Indices, leads: Indices) -> Values:
    """The value whole periods ago, at least one, as few as there can be."""
    known = past.kept(("known", "usable"), lambda: last_known(past.usable))
    places = origins[:, None] + (leads - 1 - period * -(-leads // period))[None, :]
    return np.where(places >= 0, known[np.clip(places, 0, len(known) - 1)], np.nan)


PLUGIN: Final = SeasonalNaive()
