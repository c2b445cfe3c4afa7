"""Same seed, same bytes: in one process, and in two fresh ones that hash differently."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from neap.common.testing.simloop import simulate
from neap.common.units import MINUTE
from neap.virtual.faults import Crash, Noise, Outage, Trouble, plan
from neap.virtual.simulation import Simulation
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


def test_the_same_seed_and_faults_give_the_same_journal_to_the_last_byte_and_another_seed_does_not() -> None:
    once = journal(1)
    assert once.count(b"\n") > 100
    assert once == journal(1)
    assert once != journal(2)


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


@pytest.mark.timeout(120)
def test_two_fresh_interpreters_with_other_hashes_write_the_same_journal(tmp_path: Path) -> None:
    """What `neap sim --seed 5 --journal FILE` promises; sets and dicts of text are ordered differently in the two."""

    def run(number: int) -> subprocess.Popen[bytes]:
        command = [
            "sim",
            "--nodes",
            "2",
            "--length",
            "0.3",
            "--seed",
            "5",
            "--journal",
            str(tmp_path / f"{number}.jsonl"),
        ]
        return subprocess.Popen(
            [sys.executable, "-m", "neap.console", *command],
            env={**os.environ, "PYTHONHASHSEED": str(number)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    running = [run(number) for number in (1, 2)]
    for process in running:
        said, _ = process.communicate(timeout=90)
        assert process.returncode == 0, said.decode()
    first, second = ((tmp_path / f"{number}.jsonl").read_bytes() for number in (1, 2))
    assert first.count(b"\n") > 50
    assert first == second
