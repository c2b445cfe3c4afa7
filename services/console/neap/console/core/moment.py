"""Times as people read them."""

from __future__ import annotations

from datetime import UTC, datetime


def when(at: float) -> str:
    """Time of day, UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S")
