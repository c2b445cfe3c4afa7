"""One boot for all scenarios. They run only when asked for: `-m lab`, as `make lab` does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
FIGURES = pytest.StashKey[dict[str, dict[str, Any]]]()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Whoever does not ask for the lab does not even import this; what runs inside is never run outside."""
    if collection_path == HERE / "inside":
        return True
    return None if "lab" in str(config.getoption("markexpr")) or collection_path.name == "conftest.py" else True


@pytest.fixture(scope="session")
def run(pytestconfig: pytest.Config) -> Any:
    """The machine has lived, and said what it had to say."""
    from tests.lab import image, system, vm

    done = vm.boot(image.build())
    done.figures["lab"] |= vm.slowness(done)
    pytestconfig.stash[FIGURES] = done.figures
    (system.BUILD / "figures.json").write_text(json.dumps(done.figures, indent=1) + "\n")
    return done


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """What was measured, as a table; the same as JSON in build/lab/figures.json."""
    for scenario, figures in config.stash.get(FIGURES, {}).items():
        terminalreporter.write_line(f"\n{scenario.removeprefix('test_').replace('_', ' ')}")
        for name, value in figures.items():
            terminalreporter.write_line(f"    {name.replace('_', ' '):<44} {value}")
