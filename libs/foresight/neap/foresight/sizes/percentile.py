"""A percentile of your choice, and a margin of your choice on top.

    size = (1 + margin) · percentile of all samples, weights halving every 24 h    [unit of the samples: cores, bytes]

When to use: where a service's people know what they want to hold (0.95 and 0.2, say).
When not: by default, see `snug`, which takes back what such a margin never needed.
Source: requirements 001-09 (request = p95 · (1 + margin), window, percentile and saving stated).
"""

from __future__ import annotations

from typing import Final

from neap.foresight.rule import Advised, Aim, Known, Memory, amount, percentile


class Percentile:
    """See module docstring. Laws: monotone in every sample, equivariant to scale."""

    def advise(self, known: Known, aim: Aim, memory: Memory) -> Advised:  # noqa: ARG002  nothing is kept
        """See Rule."""
        value = percentile(known, aim.percentile)
        return Advised(
            (1 + aim.margin) * value,
            f"{amount(value)} (p{100 * aim.percentile:g}, half-life 24 h) x {1 + aim.margin:.4g}",
        )


PLUGIN: Final = Percentile()
