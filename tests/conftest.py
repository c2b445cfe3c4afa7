"""Shared by every test: where the repository is, how long it is waited, and what a missing tool means."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"

SOON = 60.0  # s; what has not come by then does not come: a hundred times what it takes, for machines are slow at times
HANG = 300.0  # s; as in pyproject: longer than any one wait, so that the wait says what is missing

settings.register_profile("dev", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("dev"), max_examples=150, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


@pytest.fixture(autouse=True)
def _no_exporter_left_behind() -> Iterator[None]:
    """A collector's exporter waits random times, in a thread; what draws from `random` behind Hypothesis's back makes
    any law fail that happens to run then."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        if thread.name.lower().startswith("otel"):
            thread.join(SOON)
            assert not thread.is_alive(), f"{thread.name} outlives its test"


def missing(what: str) -> None:
    """A missing tool or input skips on a laptop and fails where CI is set: a silent skip is a hole."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing, and CI is set")
    pytest.skip(f"{what} is missing")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the project."""
    if not SHARED.is_dir():
        missing("../shared (reference data)")
    return SHARED
