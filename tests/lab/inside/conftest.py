"""What every scenario starts from: a bounded time, an empty node, and a place for its figures."""

from __future__ import annotations

import faulthandler
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.inside.__main__ import tell
from tests.lab.inside.pods import Kubelet, a_kubelet
from tests.lab.machine import SYSTEM_CPUS

LONGEST = 240  # seconds of one scenario


class TookTooLongError(SystemExit):
    """Neither an event loop nor a handler of timeouts on the way catches this, as they would a TimeoutError."""


@pytest.fixture(autouse=True)
def _bounded() -> Iterator[None]:
    def late(*_: object) -> None:
        faulthandler.dump_traceback()
        raise TookTooLongError(f"the scenario took more than {LONGEST} s")

    os.sched_setaffinity(0, SYSTEM_CPUS)
    signal.signal(signal.SIGALRM, late)
    signal.alarm(LONGEST)
    yield
    signal.alarm(0)


@pytest.fixture
def kubelet() -> Iterator[Kubelet]:
    with a_kubelet() as made:
        yield made


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """What the scenario measured; told also when it fails."""
    found: dict[str, Any] = {}
    yield found
    tell({"scenario": request.node.name, "figures": found})


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal"
