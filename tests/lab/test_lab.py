"""Every scenario of inside/, as it went on the lab's own kernel. The names are read, not imported: they run in there."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.lab.vm import Run, last_words

INSIDE = Path(__file__).resolve().parent / "inside"
BOOTS = 1100  # seconds: the image is made, the machine lives; whoever comes first waits for it

pytestmark = [pytest.mark.lab, pytest.mark.timeout(BOOTS)]


def scenarios() -> list[str]:
    """The names of all scenarios, in the order in which they run."""
    found = []
    for file in sorted(INSIDE.glob("scenario_*.py")):
        tree = ast.parse(file.read_text())
        found += [
            node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
        ]
    return found


@pytest.mark.parametrize("name", scenarios())
def test_on_a_real_kernel(name: str, run: Run) -> None:
    verdict = run.verdicts.get(name)
    assert verdict is not None, f"nothing was heard of {name}\n{last_words(run)}"
    assert verdict.outcome == "passed", f"{name} {verdict.outcome} after {verdict.seconds} s\n{verdict.story}"
