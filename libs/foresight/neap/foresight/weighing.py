"""How models share the word: by how they did on the past of this very series, lead by lead.

Leads are grouped (1-3, 4-12, 13-36, ... steps), for who is best an hour ahead is not who is best a day ahead. At every
origin o of the back-test, of group G with last lead e, with errors E(k, j) of model k at the origins j + e ≤ o:

    L(k) = (Σ_j g^(o − j)·E(k, j) + n·B(k)) / (Σ_j g^(o − j) + n)      error so far; E: mean of |f − y| / y over the group
    w(k) ∝ (min L / L(k))^POWER
    f    = exp Σ w(k)·ln f(k)                                           geometric mean: one wild model does little

B is what is believed before there is evidence: of the first group, the median model's error; of any other, what the
shorter leads say of each model, so that a day-ahead forecast need not wait a day to learn that something has changed.

POWER 16: 4.4 % more error halve a model's weight: between the mean of all and the best alone. The weights
at past origins are those of then, so the mixture's own errors there are honest.
Cost: O(models · origins · leads). Source: Bates & Granger 1969 (inverse error weights); Timmermann 2006, Forecast
combinations, 4; exponential weights of prediction with expert advice (Cesa-Bianchi & Lugosi 2006).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from neap.common.units import HOUR, Seconds
from neap.foresight.past import Indices
from neap.foresight.series import Values

EDGES: Final = (3, 12, 36, 72, 144, 288, 576, 1152, 2016)  # last lead of each group, in steps
POWER: Final = 16.0
HALF_LIFE: Final[Seconds] = 168 * HOUR  # of evidence
FIRST: Final[Seconds] = 6 * HOUR  # of evidence that the belief before any is worth, for the first group
NEXT: Final[Seconds] = 24 * HOUR  # and for the others
TINY: Final = 1e-6  # values are shares of the highest: below that, logarithms end


@dataclass(frozen=True)
class Group:
    """Leads that share weights: places [begin, end) among the leads, of which `last` is the longest."""

    begin: int
    end: int
    last: int


def groups(leads: Indices) -> tuple[Group, ...]:
    """How the leads are grouped."""
    ends = [int(np.searchsorted(leads, edge, side="right")) for edge in EDGES]
    if ends[-1] < len(leads):
        ends.append(len(leads))
    pairs = zip([0, *ends], ends, strict=False)
    return tuple(Group(begin, end, int(leads[end - 1])) for begin, end in pairs if end > begin)


def relative(paths: Values, values: Values) -> Values:
    """|f − y| / y; NaN where y is unknown or 0."""
    known = np.isfinite(values) & (values > 0)
    return np.abs(paths - values) / np.where(known, values, np.nan)


def weigh(errors: Values, origins: Indices, split: Sequence[Group], step: Seconds, stride: Seconds) -> Values:
    """Weights at every origin, and for the present: shape (models, origins, groups), each as of then.

    Args:
        errors: of shape (models, origins, leads); NaN: not to be known, or no path. The last origin is the present.
        origins: indices, increasing.
        split: groups of the leads.
        step: seconds of one.
        stride: seconds between origins.
    """
    ages = (origins[:, None] - origins[None, :]).astype(np.float64)
    believed: Values | None = None
    weights = np.empty((*errors.shape[:2], len(split)))
    for place, group in enumerate(split):
        loss, known = _means(errors[:, :, group.begin : group.end])
        counts = (ages >= group.last) * 0.5 ** (ages * step / HALF_LIFE)
        total, heavy = loss @ counts.T, known @ counts.T
        sofar = np.where(heavy > 0, total / np.where(heavy > 0, heavy, 1.0), np.nan)
        usual, best = _middle(sofar)
        if believed is None:
            belief, worth = np.broadcast_to(usual, sofar.shape), FIRST / stride
        else:
            belief, worth = believed * best, NEXT / stride
        blended = (np.where(heavy > 0, total, 0.0) + worth * belief) / (heavy + worth)
        least = blended.min(axis=0)
        believed = np.where(least > 0, blended / np.where(least > 0, least, 1.0), np.where(blended > 0, 1e3, 1.0))
        weights[:, :, place] = believed**-POWER
    return weights


def _means(errors: Values) -> tuple[Values, Values]:
    """Mean error over the leads of each origin, 0 where it is not known, and where it is (as 0 and 1)."""
    known = np.isfinite(errors)
    count = known.sum(axis=2)
    return np.where(known, errors, 0.0).sum(axis=2) / np.maximum(count, 1), (count > 0).astype(np.float64)


def _middle(sofar: Values) -> tuple[Values, Values]:
    """The median and the least over the models that have an error; 1 where none has."""
    ranked = np.sort(sofar, axis=0)
    count = np.isfinite(sofar).sum(axis=0)
    usual = np.take_along_axis(ranked, (np.maximum(count - 1, 0) // 2)[None], 0)[0]
    return np.where(count > 0, usual, 1.0), np.where(count > 0, ranked[0], 1.0)


def mixed(paths: Values, weights: Values, split: Sequence[Group]) -> Values:
    """The weighted geometric mean over the models: (models, origins, leads) → (origins, leads); NaN where none speaks."""
    told = np.isfinite(paths)
    logs = np.log(np.maximum(np.where(told, paths, 0.0), TINY))
    parts = []
    for place, group in enumerate(split):
        span = slice(group.begin, group.end)
        heavy = told[:, :, span] * weights[:, :, place, None]
        total = heavy.sum(axis=0)
        mean = (logs[:, :, span] * heavy).sum(axis=0) / np.where(total > 0, total, 1.0)
        parts.append(np.where(total > 0, np.exp(mean), np.nan))
    low = np.where(told, paths, np.inf).min(axis=0)
    high = np.where(told, paths, -np.inf).max(axis=0)
    within: Values = np.clip(np.concatenate(parts, axis=1), np.minimum(low, high), high)  # rounding adds nothing
    return within
