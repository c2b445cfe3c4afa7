"""What a room may pull in: weight is nodes times megabytes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import HANG, SOON

NODE_ROOMS = ("reporter", "advisor", "enforcer", "evictor", "gpushare")
HEAVY = ("numpy", "scipy", "pandas", "kubernetes_asyncio", "opentelemetry.sdk", "typer", "rich")


@pytest.mark.parametrize("room", NODE_ROOMS)
def test_a_node_room_imports_nothing_heavy(room: str) -> None:
    code = f"import sys, neap.{room}.wiring; print([n for n in {HEAVY!r} if n in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=SOON)
    assert result.stdout.strip() == "[]"


def test_layers_hold() -> None:
    result = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"],
        check=False, capture_output=True, text=True, timeout=HANG,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-3000:]
