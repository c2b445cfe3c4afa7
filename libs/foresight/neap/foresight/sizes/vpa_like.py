"""The rule of the Vertical Pod Autoscaler: a percentile of what was used lately, and something on top.

    size = 1.15 · p90 of all samples, weights halving every 24 h               [unit of the samples: cores, bytes]

When to use: as what others are measured by. When not: a step up is noticed hours late (a tenth of the weight has to
lie above it first), a step down days late.
Source: Kubernetes autoscaler, vertical-pod-autoscaler recommender (percentile 0.9, margin 0.15, half-life 24 h).
"""

from __future__ import annotations

from typing import Final

from neap.foresight.rule import Advised, Aim, Known, Memory, amount, percentile

SHARE: Final = 0.9
TIMES: Final = 1.15


class VpaLike:
    """See module docstring. Laws: monotone in every sample, equivariant to scale."""

    def advise(self, known: Known, aim: Aim, memory: Memory) -> Advised:  # noqa: ARG002  nothing to wish, nothing kept
        """See Rule."""
        value = percentile(known, SHARE)
        return Advised(TIMES * value, f"{amount(value)} (p90, half-life 24 h) x {TIMES}")


PLUGIN: Final = VpaLike()
