"""The middle of what was used in the last day, or week: for series without shape, and with spikes.

f(o + h) = median of the known values of [o − W, o), W = one day or one week

The median minimises the mean absolute error of a series whose order says nothing. Of a week every seventh value is
taken. Cost: O(300 log 300) per origin. Source: Autopilot (EuroSys 2020), 3.2.1, percentiles of a window.
"""

from __future__ import annotations

from typing import Final

from neap.common.units import DAY
from neap.foresight.past import Indices, Past, Paths, before, every, median

MOST: Final = 288  # values looked at


class Percentile:
    """See module docstring."""

    def paths(self, past: Past, origins: Indices, leads: Indices) -> Paths:
        """See Model."""
        told = {}
        for title, days in (("day", 1), ("week", 7)):
            count = past.samples(days * DAY)
            thin = max(1, count // MOST)
            told[f"median of the {title}"] = every(median(before(past.usable, origins, count, thin)), leads)
        return told


PLUGIN: Final = Percentile()
