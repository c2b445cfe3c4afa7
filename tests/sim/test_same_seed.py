"""Same seed, same bytes: in one process, and in two fresh ones that hash differently."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import msgspec

from neap.common.testing.simloop import simulate
from neap.common.units import MINUTE
from neap.virtual.faults import Crash, Noise, Outage, Trouble, plan
from neap.virtual.simulation import Simulation
from tests.conftest import HANG, ROOT
from tests.sim.small import live, small_settings

TROUBLES: tuple[Trouble, ...] = (
    Noise("neap.v1.node.>", "delay", at=6 * MINUTE, away=9 * MINUTE, share=0.5, most=90.0),
    Outage(at=12 * MINUTE, away=20),
    Crash("scheduler", "", at=15 * MINUTE, away=40),
)


def journal(seed: int) -> bytes:
    out = io.BytesIO()
    live(TROUBLES, seed=seed, until=20 * MINUTE, journal=out)
    return out.getvalue()


def fresh(number: int, *arguments: str) -> subprocess.Popen[bytes]:
    """A new interpreter that orders sets of text in its own way."""
    environment = {**os.environ, "PYTHONHASHSEED": str(number), "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    return subprocess.Popen(
        [sys.executable, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_the_same_seed_and_faults_give_the_same_journal_to_the_last_byte_and_another_seed_does_not() -> None:
    write = "import sys; from tests.sim.test_same_seed import journal; sys.stdout.buffer.write(journal(1))"
    other = fresh(1, "-c", write)
    once = journal(1)
    assert once.count(b"\n") > 100
    assert once != journal(2)
    said, wrong = other.communicate(timeout=HANG)
    assert other.returncode == 0, wrong.decode()
    assert said == once


def test_the_journal_holds_every_stored_message_in_the_order_of_its_stream() -> None:
    out = io.BytesIO()
    world = Simulation(small_settings("virtual.length=600"), seed=1, journal=out, faults=plan(Outage(at=300, away=30)))
    simulate(world.run_day())
    lines = [msgspec.json.decode(line) for line in out.getvalue().splitlines()]
    for stream, prefix in (
        ("NEAP_WORKLOADS", "neap.v1.workload."),
        ("NEAP_LEDGER", "neap.v1.ledger."),
        ("NEAP_TRAIL", "neap.v1.trail."),
    ):
        seqs = [line["seq"] for line in lines if line["subject"].startswith(prefix)]
        assert seqs == list(range(1, world.broker.logs[stream].last + 1)), stream


def test_the_command_writes_the_same_journal_again(tmp_path: Path) -> None:
    """`neap sim --seed 5 --journal FILE`, in two interpreters that hash differently."""

    def command(number: int) -> list[str]:
        file = str(tmp_path / f"{number}.jsonl")
        return ["-m", "neap.console", "sim", "--nodes", "2", "--length", "0.3", "--seed", "5", "--journal", file]

    for process in [fresh(number, *command(number)) for number in (1, 2)]:
        _, wrong = process.communicate(timeout=HANG)
        assert process.returncode == 0, wrong.decode()
    first, second = ((tmp_path / f"{number}.jsonl").read_bytes() for number in (1, 2))
    assert first.count(b"\n") > 50
    assert first == second
