"""A scheduler's life, written to a file and lived again: as it was, and with other settings."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from neap.common.errors import InputError
from neap.common.runtime.clock import loop_clock
from neap.common.runtime.journal import FileJournal
from neap.common.testing.simloop import simulate
from neap.common.units import MINUTE
from neap.console.core.difference import compare
from neap.console.shell.schedule import Replay, replay
from neap.virtual.faults import Noise, plan
from neap.virtual.simulation import LEAD, Simulation
from tests.sim.small import small_settings


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half an hour of the small world, in which guests are evicted and come back, and reports come late."""
    path = tmp_path_factory.mktemp("journal") / "scheduler.jsonl"
    late = Noise("neap.v1.node.>", "delay", at=5 * MINUTE, away=10 * MINUTE, share=0.3, most=70.0)

    async def live() -> None:
        clock = loop_clock(asyncio.get_running_loop(), epoch=world.virtual.start - LEAD)
        async with world.running(clock):
            await clock.sleep_until(world.virtual.start + 30 * MINUTE)

    with path.open("wb") as out:
        recorder = FileJournal(out, only="scheduler")
        world = Simulation(small_settings(), seed=1, record=recorder, faults=plan(late))
        simulate(live())
    return path


async def life_of(journal: Path) -> Replay:
    return Replay(journal)


async def test_a_life_read_from_its_file_leads_to_the_same_decisions(journal: Path) -> None:
    life = await life_of(journal)
    assert life.has_settings
    assert len(life.facts.outcome.placed) > 20
    assert life.repeated() == ""


async def test_the_re_run_with_the_recorded_settings_is_the_recorded_life(journal: Path) -> None:
    life = await life_of(journal)
    again, then = life.rerun({}), life.facts.outcome
    assert again.placed == then.placed
    assert again.submitted == then.submitted


async def test_other_settings_move_pods_and_lose_none(journal: Path) -> None:
    life = await life_of(journal)
    new = life.rerun({"allocation.owners": "pack", "allocation.guests": "pack", "load_aware.weight": "0"})
    found = compare(life.facts.outcome, new)
    assert found.moved
    ever = {run[0] for run in life.facts.outcome.placed}
    assert len({run[0] for run in new.placed} ^ ever) <= len(ever) // 10, "nearly everybody is placed sooner or later"
    assert not any("load_aware" in place.terms for place in new.placed.values()), "it has no weight"


async def test_people_read_a_summary_and_machines_read_all_of_it(journal: Path) -> None:
    text = await replay(journal, ["allocation.owners=pack"], in_json=False)
    assert "with the recorded settings every decision is as recorded" in text
    assert "with allocation.owners=pack: " in text
    told = msgspec.json.decode(await replay(journal, ["allocation.owners=pack"], in_json=True))
    assert told["reproduced"] is True
    assert told["own_difference"]["moved"] == []
    moved = told["changed"]["moved"]
    assert moved
    assert all(one["then"]["node"] != one["now"]["node"] and one["now"]["terms"] for one in moved)


async def test_a_decision_that_was_not_made_is_named_with_its_line(journal: Path, tmp_path: Path) -> None:
    lines = journal.read_bytes().split(b"\n")
    number, line = next((i, text) for i, text in enumerate(lines) if b'"type":"placed"' in text and b'"do":[' in text)
    forged = tmp_path / "forged.jsonl"
    start = line.index(b'"do":[')
    other = line[:start] + line[start:].replace(b'"node":"n', b'"node":"m')
    forged.write_bytes(b"\n".join([*lines[:number], other, *lines[number + 1 :]]))
    text = await replay(forged, [], in_json=False)
    assert f"a decision is NOT as recorded: line {number + 1}: then" in text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "nothing of a service named 'scheduler'"),
        (b'{"seq":1,"subject":"neap.v1.trail.a.b","message":{}}\n', "line 1: not a line of a service's journal"),
        (b"\xff\n", "line 1: not a line of a journal"),
        (b'{"service":"scheduler","node":"","event":{"is":"Dreamt","at":1.0},"do":[]}\n', "line 1: not an event"),
        (b'{"service":"scheduler","settings":{"batch":0},"seed":1}\n', "settings of another version"),
        (b'{"service":"scheduler","settings":{},"seed":1}\n', "no workload in it"),
    ],
)
async def test_what_is_no_journal_of_a_scheduler_is_refused(tmp_path: Path, text: bytes, said: str) -> None:
    file = tmp_path / "journal.jsonl"
    file.write_bytes(text)
    with pytest.raises(InputError, match=said):
        await replay(file, [], in_json=False)
