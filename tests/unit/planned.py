"""What a desk of the planner plans, its steps put together."""

from __future__ import annotations

from neap.common.runtime.machine import Instruction
from neap.common.units import Seconds
from neap.planner.core.desk import PAUSE, Desk


def planned(desk: Desk, at: Seconds) -> list[Instruction]:
    """All of one look; nothing is heard between its steps."""
    return [one for one in desk.plan(at) if one is not PAUSE]
