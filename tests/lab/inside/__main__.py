"""Runs the scenarios with pytest, and tells each verdict on the second serial line as soon as it is known.

python -m tests.lab.inside [scenario_name,other_name]
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.lab.loop import loop

HERE = Path(__file__).resolve().parent
TOLD = Path("/dev/ttyS1")
LONGEST_STORY = 6000


class Teller:
    """Each scenario's verdict, and how long it took."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            name = report.nodeid.rpartition("::")[2]
            story = (
                f"{report.longreprtext}\n{report.capstdout}{report.capstderr}"[-LONGEST_STORY:] if report.failed else ""
            )
            tell({"scenario": name, "outcome": report.outcome, "story": story, "seconds": round(report.duration, 1)})


def tell(said: dict[str, Any]) -> None:
    """One line."""
    line = json.dumps(said).encode() + b"\n"
    out = os.open(TOLD, os.O_WRONLY | os.O_NOCTTY)
    try:
        while line:
            line = line[os.write(out, line) :]
    finally:
        os.close(out)


def main() -> int:
    """All scenarios, or those asked for."""
    seconds = [round(loop(), 3) for _ in range(3)]
    booted = float(Path("/proc/uptime").read_text().split()[0])
    tell({"scenario": "lab", "figures": {"booted_seconds": booted, "loop_seconds": min(seconds)}})
    only = [name for word in sys.argv[1:] for name in word.split(",") if name]
    words = [
        "-c",
        "/dev/null",
        "--rootdir",
        str(HERE),
        "--confcutdir",
        str(HERE),
        "-p",
        "no:cacheprovider",
        "--import-mode=importlib",
        "-v",
        "--color=no",
    ]
    words += ["-W", "error", "-o", "python_files=scenario_*.py", "--tb=short", "--durations=0", str(HERE)]
    return int(pytest.main([*words, *(["-k", " or ".join(only)] if only else [])], plugins=[Teller()]))


if __name__ == "__main__":
    sys.exit(main())
