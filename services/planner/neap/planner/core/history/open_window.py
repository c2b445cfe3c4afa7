"""Five minutes under way: what every node reported, until the sums are made.

    of a node      R reports, each with its containers' use:  contribution of a service = sum over reports / R
    of a service   the sum over nodes, × (seen + missing) / seen for replicas on nodes that were silent,
                   absent if these are more than the share `silent`
    replicas       the same sum with 1 for every pod

So neither how many reports came, nor their order, nor a lost one counts; a replica that was there for two of five
reports counts two fifths. A container whose use is not known counts as much as the others of its service.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neap.common.units import Ratio
from neap.foresight.series import Values
from neap.foresight.windows import summed


@dataclass(frozen=True)
class Listed:
    """The containers of one report: rows of their services, and use; NaN where unknown."""

    rows: NDArray[np.intp]
    cpu: NDArray[np.floating[Any]]
    memory: NDArray[np.floating[Any]]
    pods: NDArray[np.number[Any]]  # 1 for the first container of each pod, else 0
    owners: NDArray[np.bool_]  # not lent

    def packed(self) -> Listed:
        """The same in half the room: 15,000 of them are kept at a time. Amounts within a ten millionth."""
        rows: Any = self.rows.astype(np.int32)
        cpu, memory = self.cpu.astype(np.float32), self.memory.astype(np.float32)
        return Listed(rows, cpu, memory, self.pods.astype(np.uint8), self.owners)

    def of_owners(self, values: NDArray[np.floating[Any]]) -> float:
        """What owners used together; NaN if nothing is known of any."""
        known = self.owners & np.isfinite(values)
        if not known.any():
            return np.nan if self.owners.any() else 0.0
        return float(values[known].sum(dtype=np.float64)) * int(self.owners.sum()) / int(known.sum())


@dataclass
class OpenWindow:
    """See module docstring."""

    reports: dict[str, list[Listed]] = field(default_factory=dict)  # by node
    is_changed: bool = False  # since the sums were made

    def add(self, node: str, listed: Listed) -> None:
        """One report."""
        self.reports.setdefault(node, []).append(listed.packed())
        self.is_changed = True

    def sums(self, rows: int, missing: Values, silent: Ratio) -> dict[str, Values]:
        """cpu, memory and replicas of every service, NaN where absent; `missing`: replicas on silent nodes."""
        listed = [(each, len(reports)) for _, reports in sorted(self.reports.items()) for each in reports]
        if not listed:
            return {name: np.full(rows, np.nan) for name in ("cpu", "memory", "replicas")}
        of = np.concatenate([each.rows for each, _ in listed])
        share = np.concatenate([np.full(len(each.rows), 1 / count) for each, count in listed])
        pods = np.concatenate([each.pods for each, _ in listed])
        there = summed(of, share, rows)
        seen = summed(of, share * pods, rows)
        with np.errstate(divide="ignore", invalid="ignore"):
            scale = np.where(missing <= silent * (seen + missing), (seen + missing) / seen, np.nan)
        scale[there == 0] = np.nan
        found: dict[str, Values] = {"replicas": seen * scale}
        for name in ("cpu", "memory"):
            values = np.concatenate([getattr(each, name) for each, _ in listed])
            known = np.isfinite(values)
            known_there = summed(of[known], share[known], rows)
            total = summed(of[known], (share * values)[known], rows)
            with np.errstate(divide="ignore", invalid="ignore"):
                found[name] = total * np.where(known_there > 0, there / known_there, np.nan) * scale
        return found

    def of_node(self, node: str) -> dict[str, float]:
        """What owners used on a node: mean and highest report; NaN where unknown."""
        found = {}
        for name in ("cpu", "memory"):
            told = np.array([each.of_owners(getattr(each, name)) for each in self.reports[node]])
            known = told[np.isfinite(told)]
            found[f"{name}_avg"] = float(known.mean()) if len(known) else np.nan
            found[f"{name}_max"] = float(known.max()) if len(known) else np.nan
        return found
