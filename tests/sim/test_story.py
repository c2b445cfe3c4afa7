"""What happened to an evicted guest, as the trail tells it and as `neap why pod` shows it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from neap.common.model.lifecycle import Ended, EndReason
from neap.common.model.trail import TrailEntry
from neap.console.core import story
from neap.console.core.moment import when
from tests.conftest import HANG
from tests.sim.small import Lived, live


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("day") / "journal.jsonl"


@pytest.fixture(scope="module")
def lived(journal: Path) -> Lived:
    with journal.open("wb") as out:
        return live(journal=out)


@pytest.fixture(scope="module")
def guest(lived: Lived) -> list[TrailEntry]:
    """The story of the first guest that was evicted."""
    events = (item.message for item in lived.history.workloads)
    uid = next(event.uid for event in events if isinstance(event, Ended) and event.reason == EndReason.EVICTED)
    return story.in_order((item.seq, item.message) for item in lived.history.trail if item.message.about.uid == uid)


def ask(journal: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The real command; in an empty folder, so that it finds no other day."""
    command = [sys.executable, "-m", "neap.console", "why", "pod", *arguments, "--journal", str(journal)]
    return subprocess.run(command, capture_output=True, text=True, timeout=HANG, cwd=journal.parent, check=False)


def test_an_evicted_guest_has_a_story_of_many_acts_by_at_least_four_services(guest: list[TrailEntry]) -> None:
    until_evicted = guest[: [entry.what for entry in guest].index("evicted") + 1]
    assert len(until_evicted) >= 5
    assert {"virtual", "scheduler", "advisor", "enforcer", "evictor"} <= {entry.source for entry in until_evicted}


def test_the_story_is_in_causal_order(guest: list[TrailEntry]) -> None:
    acts = [(entry.source, entry.what) for entry in guest]
    for earlier, later in (
        (("virtual", "submitted"), ("scheduler", "placed")),
        (("scheduler", "placed"), ("virtual", "started")),
        (("scheduler", "placed"), ("advisor", "advised")),
        (("advisor", "advised"), ("enforcer", "applied")),
        (("enforcer", "applied"), ("evictor", "chosen for eviction")),
        (("evictor", "chosen for eviction"), ("virtual", "evicted")),
        (("virtual", "evicted"), ("scheduler", "requeued")),
    ):
        assert acts.index(earlier) < acts.index(later), f"{earlier} after {later}"
    assert [entry.at for entry in guest] == sorted(entry.at for entry in guest)
    place = {entry.id: number for number, entry in enumerate(guest)}
    causes = [(place[entry.cause], number) for number, entry in enumerate(guest) if entry.cause in place]
    assert causes, "no act names the act that led to it"
    assert all(cause < effect for cause, effect in causes)


def test_the_eviction_names_the_numbers_that_were_compared(guest: list[TrailEntry]) -> None:
    told = {entry.source: entry for entry in guest if entry.what in {"chosen for eviction", "evicted"}}
    assert told.keys() == {"evictor", "virtual"}
    for entry in told.values():
        assert entry.numbers, f"{entry.what} by {entry.source} without numbers"
        assert all(number.metric and number.value > number.threshold > 0 for number in entry.numbers)
        assert all(number.window > 0 for number in entry.numbers), "for how long?"
    assert told["evictor"].numbers == told["virtual"].numbers
    number = told["evictor"].numbers[0]
    assert f"{number.value:.1f} cores" in told["evictor"].why


def test_every_act_is_in_the_trace_of_the_pod(guest: list[TrailEntry]) -> None:
    assert len({entry.trace for entry in guest}) == 1
    assert len(guest[0].trace) == 32


def test_the_command_tells_what_when_why_and_who_in_text(journal: Path, guest: list[TrailEntry]) -> None:
    shown = ask(journal, f"batch/{guest[0].about.name}")
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    assert guest[0].about.uid in lines[0]
    for entry in guest:
        why = entry.why if entry.eviction is None else entry.eviction.reason
        assert any(line.split()[:2] == [when(entry.at), entry.source] and why in line for line in lines), entry
    number = next(entry.numbers[0] for entry in guest if entry.what == "evicted")
    assert (
        f"{number.metric} {number.value:.6g} against {number.threshold:.6g} over {number.window:.0f} s" in shown.stdout
    )
    assert f"{len(guest)} acts by " in lines[-2]
    assert str(journal) in lines[-1]


def test_the_first_thing_told_is_why_it_was_evicted(journal: Path, guest: list[TrailEntry]) -> None:
    """Whoever is asked at night: which rule, which numbers, by whose policy, what was tried, who else, what then."""
    command = [entry.eviction for entry in guest if entry.eviction is not None][-1]
    shown = ask(journal, f"batch/{guest[0].about.name}").stdout.splitlines()
    assert shown[1].startswith("EVICTED ")
    assert f"from {command.node} by rule {command.rule}" in shown[1]
    block = {line.split()[0]: line for line in shown[2 : shown.index("")]}
    number = command.measured[0]
    assert command.reason in block["why"] or command.ranking in block["why"]
    assert f"{number.metric} {number.value:.6g}, threshold {number.threshold:.6g} over" in block["measured"]
    assert "none" in block["policy"]
    assert command.tried[0].says in block["tried"]
    assert f"node {command.budgets[0].spent} of {command.budgets[0].most}" in block["budgets"]
    assert "requeued" in block["then"]
    assert "others" in block
    verbose = ask(journal, f"batch/{guest[0].about.name}", "--verbose").stdout
    assert all(one.name in verbose for one in command.contenders)
    assert verbose.count("<- this one") == 1


def test_the_command_shows_the_pod_among_those_of_its_owner(journal: Path, guest: list[TrailEntry]) -> None:
    shown = ask(journal, f"batch/{guest[0].about.name}", "--tree")
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    assert lines[0] == "Job/index"
    members = [line for line in lines if line.startswith(("├─", "└─"))]
    assert len(members) == 24, "all copies of the job"
    assert sum(guest[0].about.name + ":" in line for line in members) == 1
    assert all(entry.why in shown.stdout for entry in guest if entry.eviction is None), (
        "the one asked for is told in full"
    )


def test_the_command_gives_the_five_fields_as_json(journal: Path, guest: list[TrailEntry]) -> None:
    shown = ask(journal, f"batch/{guest[0].about.name}", "-o", "json")
    assert shown.returncode == 0, shown.stderr
    acts = json.loads(shown.stdout)
    assert [(act["what"], act["who"], act["why"]) for act in acts] == [(e.what, e.source, e.why) for e in guest]
    assert all(act["when"].startswith("2023-07-10T00:") and isinstance(act["numbers"], list) for act in acts)
    evicted = next(act for act in acts if act["what"] == "evicted")
    assert {"metric", "value", "threshold"} <= evicted["numbers"][0].keys()


def test_a_pod_nobody_heard_of_is_said_to_be_unknown_and_the_command_fails(journal: Path, lived: Lived) -> None:
    shown = ask(journal, "batch/nobody-0")
    assert shown.returncode == 1
    assert "nothing is known" in shown.stdout
    assert ask(journal, "no-slash").returncode == 2
