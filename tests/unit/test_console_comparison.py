"""`neap sim day` and `compare`: the report of several policies, and what the command line takes."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import pytest
from typer.testing import CliRunner

from neap.common.errors import SettingsError
from neap.console import options
from neap.console.cli import app
from neap.console.core.comparison import Comparison, PolicyDay, as_json, difference, text
from neap.console.core.figure import Sample, draw_policies
from neap.console.core.summary import DayTotals
from neap.console.shell.simulated import Ask, compare_policies

TOTALS = DayTotals(
    utilisation=0.6, guest_core_hours=100, lost_core_hours=1, service_minutes=1000, violation_minutes=5,
    evictions={"reclaimed_overuse": 3}, finished=7,
)  # fmt: skip
COURSE = (Sample(60.0, 0.2, 0.4, 0), Sample(120.0, 0.2, 0.5, 1))


def a_day(policy: str, seed: int, utilisation: float, violated: int) -> PolicyDay:
    totals = msgspec.structs.replace(TOTALS, utilisation=utilisation, violation_minutes=violated)
    return PolicyDay(policy=policy, seed=seed, totals=totals, seconds=1.0, course=COURSE)


def a_comparison() -> Comparison:
    days = [a_day("neap", 1, 0.7, 5), a_day("neap", 2, 0.6, 3), a_day("peer", 1, 0.5, 9), a_day("peer", 2, 0.5, 9)]
    alone = [a_day("online-only", 1, 0.2, 2), a_day("online-only", 2, 0.2, 2)]
    policies = {"neap": "ours", "peer": "theirs", "online-only": "alone"}
    return Comparison(
        nodes=2,
        cores=128.0,
        hours=24.0,
        machine="big",
        policies=policies,
        days=(*days, *alone),
        story=("real: curves",),
    )


def test_the_table_names_every_seed_the_mean_and_the_cost_and_says_it_is_simulated() -> None:
    told = text(a_comparison())
    assert told.startswith("SIMULATED: 2 virtual nodes, 128 usable CPUs, each a big, 24 h, seeds 1, 2")
    mean = next(line for line in told.splitlines() if line.startswith("neap ") and " mean " in line)
    assert "65.0%" in mean
    assert "8 of 2000 (0.400%)" in mean
    assert "+0.200%" in mean
    assert "real: curves" in told


def test_the_difference_of_two_policies_is_a_sentence_with_numbers() -> None:
    assert difference(a_comparison(), "peer", "neap").startswith("neap against peer: utilisation +15.0 points")


def test_the_report_for_machines_has_every_day_and_the_means() -> None:
    plain = json.loads(json.dumps(as_json(a_comparison())))
    assert plain["simulated"] is True
    assert len(plain["days"]) == 6
    assert plain["mean"]["neap"]["cost"] == pytest.approx(0.002)
    assert "course" not in plain["days"][0]


def test_the_figure_has_a_line_per_policy_above_the_owners() -> None:
    svg = draw_policies({"neap": COURSE, "peer": COURSE, "none yet": ()}, length=3600.0, title="a < b")
    root = ET.fromstring(svg)
    assert len(root.findall("{http://www.w3.org/2000/svg}polyline")) == 2
    assert len(root.findall("{http://www.w3.org/2000/svg}polygon")) == 1


def test_a_trace_is_a_file_or_a_folder_that_is_there(tmp_path: Path) -> None:
    ask = Ask(policies=("neap",), trace=tmp_path)
    assert f"virtual.examples={tmp_path}" in ask.settings(1)
    file = tmp_path / "day.toml"
    file.write_text("")
    assert f"virtual.file={file}" in msgspec.structs.replace(ask, trace=file).settings(1)
    with pytest.raises(SettingsError, match="nowhere"):
        msgspec.structs.replace(ask, trace=tmp_path / "nowhere").settings(1)


@pytest.mark.parametrize(("told", "hours"), [("2", 2.0), ("0.5", 0.5), ("90m", 1.5), ("24h", 24.0), (24.0, 24.0)])
def test_a_length_is_a_duration_or_hours(told: str | float, hours: float) -> None:
    assert options.hours(told) == hours


@pytest.mark.parametrize("words", [["--length", "2x"], ["--length", "1m"], ["--length", "25"], ["--machine", "nope"]])
def test_wrong_words_are_refused_before_anything_is_started(words: list[str]) -> None:
    assert CliRunner().invoke(app, ["sim", "day", "--nodes", "1", *words]).exit_code != 0


def test_a_policys_settings_are_checked_before_the_first_day_is_lived() -> None:
    ask = Ask(policies=("neap", "peer,evictor.nothing=1"), nodes=1, hours=24.0)
    with pytest.raises(SettingsError, match=r"evictor\.nothing"):
        compare_policies(ask, in_json=True)


def test_the_commands_are_there_and_sim_still_runs_by_itself(tmp_path: Path) -> None:
    run = CliRunner()
    for words in (["sim", "--help"], ["sim", "day", "--help"], ["sim", "compare", "--help"], ["assess", "--help"]):
        assert run.invoke(app, words).exit_code == 0, words
    alone = run.invoke(app, ["sim", "--nodes", "1", "--length", "0.05"])
    assert alone.exit_code == 0, alone.output
    assert "owner SLO violations" in alone.output
    told = run.invoke(
        app, ["sim", "compare", "peer", "neap", "--nodes", "1", "--length", "0.05", "--out", str(tmp_path)]
    )
    assert told.exit_code == 0, told.output
    assert "SIMULATED" in told.output
    assert "neap against peer" in told.output
    assert {path.name for path in tmp_path.iterdir()} == {"sim-day.json", "sim-day.svg"}
