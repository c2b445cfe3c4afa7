"""Reads the real slices under examples/: load curves and rows of a cluster trace. The only file access of the day.

Where they come from, their licences and their columns: examples/README.md.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from neap.common.errors import InputError
from neap.common.units import MIB, Bytes, MilliCores, Ratio, Seconds

CURVE_STEP: Final[Seconds] = 300.0
CURVES: Final[Mapping[str, tuple[str, float]]] = {  # name -> column, what its 100 % is
    "ali2018": ("cpu_util_percent", 100.0),
    "google2019": ("avg_cpu", 1.0),
}


@dataclass(frozen=True)
class TraceRow:
    """One pod of the trace. `duration` is deletion − scheduled time; rows that never started are left out."""

    name: str
    cpu: MilliCores
    memory: Bytes
    gpu_milli: int  # thousandths of one card; 0: no GPU
    created: Seconds  # since the trace's beginning
    duration: Seconds


@dataclass(frozen=True)
class Slices:
    """Everything real a day is made of. Curves are days ("ali2018/3") of CPU use as ratios, one per CURVE_STEP."""

    curves: Mapping[str, tuple[Ratio, ...]]
    rows: tuple[TraceRow, ...]


def examples_root(examples: str = "") -> Path:
    """The examples folder: as told, or the nearest one above this file.

    Raises:
        InputError: there is none.
    """
    if examples:
        root = Path(examples)
        if not root.is_dir():
            raise InputError(f"examples folder {examples} does not exist")
        return root
    for above in Path(__file__).resolve().parents:
        if (above / "examples" / "trace").is_dir():
            return above / "examples"
    raise InputError("no examples folder above the source tree: set virtual.examples to where it is")


def read_slices(root: Path) -> Slices:
    """Read curves and trace.

    Raises:
        InputError: names file, line and field.
    """
    curves: dict[str, tuple[Ratio, ...]] = {}
    for name, (column, full) in CURVES.items():
        days: dict[str, list[Ratio]] = {}
        for where, row in _rows(root / "curves" / f"{name}.csv"):
            value = _number(row, column, where) / full
            if not 0 <= value <= 1:
                raise InputError(f"{where}: {column}={row[column]} is no share of a machine")
            days.setdefault(f"{name}/{row.get('day')}", []).append(value)
        curves |= {day: tuple(points) for day, points in days.items()}
    return Slices(curves, tuple(_trace(root / "trace" / "openb_pods.csv")))


def _trace(path: Path) -> Iterator[TraceRow]:
    for where, row in _rows(path):
        if not row.get("scheduled_time"):
            continue
        scheduled = _number(row, "scheduled_time", where)
        yield TraceRow(
            name=str(row.get("name")),
            cpu=int(_number(row, "cpu_milli", where)),
            memory=int(_number(row, "memory_mib", where)) * MIB,
            gpu_milli=int(_number(row, "num_gpu", where) and _number(row, "gpu_milli", where)),
            created=_number(row, "creation_time", where),
            duration=_number(row, "deletion_time", where) - scheduled,
        )


def _rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            for number, row in enumerate(csv.DictReader(lines), start=2):
                yield f"{path.name} line {number}", row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None


def _number(row: Mapping[str, str | None], column: str, where: str) -> float:
    try:
        return float(row[column] or "")
    except (KeyError, ValueError):
        raise InputError(f"{where}: {column}={row.get(column)!r} is no number") from None
