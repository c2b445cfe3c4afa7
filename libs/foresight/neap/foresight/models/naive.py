"""It stays as it is.

f(o + h) = last known value before o      [unit of the series]

Cost: O(n). Source: Hyndman & Athanasopoulos, Forecasting: Principles and Practice (3rd ed.), 5.2, naive method.
"""

from __future__ import annotations

from typing import Final

from neap.foresight.past import Indices, Past, Paths, before, every, last_known


class Naive:
    """See module docstring."""

    def paths(self, past: Past, origins: Indices, leads: Indices) -> Paths:
        """See Model."""
        known = past.kept(("known",), lambda: last_known(past.seen))
        return {"naive": every(before(known, origins, 1)[:, 0], leads)}


PLUGIN: Final = Naive()
