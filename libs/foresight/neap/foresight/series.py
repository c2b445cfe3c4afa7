"""A series: values on a fixed step. NaN is unknown, never zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from neap.common.units import Seconds

Values: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Series:
    """`values[i]` covers [start + i * step, start + (i + 1) * step)."""

    start: Seconds
    step: Seconds
    values: Values

    def __len__(self) -> int:
        return len(self.values)

    @property
    def end(self) -> Seconds:
        """When the last value's step is over."""
        return self.start + len(self.values) * self.step

    def until(self, count: int) -> Series:
        """The first `count` values: what was known then."""
        return Series(self.start, self.step, self.values[:count])

    def last(self, count: int) -> Series:
        """The newest `count` values, or all there are."""
        kept = self.values[-count:] if count > 0 else self.values[:0]
        return Series(self.end - len(kept) * self.step, self.step, kept)
