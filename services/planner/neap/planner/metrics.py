"""What the planner counts."""

from __future__ import annotations

from typing import Any, Final

METRICS: Final[tuple[Any, ...]] = ()
