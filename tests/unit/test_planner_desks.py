"""What desks say is news to them is what they fold: a desk is not told of anything else."""

from __future__ import annotations

import ast
import inspect
import textwrap
from typing import Any

import pytest

from neap.planner.core.forecasting.desk import Forecasts
from neap.planner.core.history.desk import History
from neap.planner.core.overcommitting.desk import OvercommitDesk
from neap.planner.core.overcommitting.watching import Watch
from neap.planner.core.profiling.desk import Profiling
from neap.planner.core.scaling.desk import ScalingDesk
from neap.planner.core.sizing.desk import SizingDesk
from neap.planner.core.tides.desk import TidesDesk

READERS = (Forecasts, History, OvercommitDesk, Profiling, ScalingDesk, SizingDesk, TidesDesk, Watch)


def folded(reader: type[Any]) -> set[str]:
    """The messages that its `hear` has a case for."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(reader.hear)))
    arrived = [
        pattern
        for case in ast.walk(tree)
        if isinstance(case, ast.MatchClass) and getattr(case.cls, "id", "") == "Arrived"
        for name, pattern in zip(case.kwd_attrs, case.kwd_patterns, strict=True)
        if name == "message"
    ]
    kinds = (part for pattern in arrived for part in ast.walk(pattern) if isinstance(part, ast.MatchClass))
    return {kind.cls.id for kind in kinds if isinstance(kind.cls, ast.Name)}


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
def test_a_desk_is_told_of_what_it_folds_and_of_nothing_else(reader: type[Any]) -> None:
    others = {kind.__name__ for kind in Watch.news} if reader is OvercommitDesk else set()
    assert {kind.__name__ for kind in reader.news} == folded(reader) | others
