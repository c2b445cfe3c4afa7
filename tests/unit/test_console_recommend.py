"""`neap recommend`: what it prints and draws, of services and of files."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from typer.testing import CliRunner

from neap.common.errors import InputError
from neap.common.model.recommendation import Course, Recommendation
from neap.common.units import GIB, HOUR
from neap.console.cli import app
from neap.console.core import pastfile, sizefigure, sizeview
from neap.console.core.sizeview import target_of
from neap.foresight.rule import Aim
from neap.foresight.sizes import snug
from tests.unit.planner_sizing_world import FEED, World

RUN = CliRunner()


def world() -> World:
    made = World(memory_limit=1.5)
    made.run(10)
    made.weeks(cores=2.0, gib=2.0, startup=5.0 * GIB)
    made.plan()
    return made


def told() -> Recommendation:
    return world().told[FEED]


@pytest.mark.parametrize(
    ("name", "namespace", "found"),
    [
        ("deploy/feed", "shop", ("shop", "Deployment", "feed")),
        ("sts/db", "default", ("default", "StatefulSet", "db")),
        ("ds/agent", "kube-system", ("kube-system", "DaemonSet", "agent")),
        ("job/etl", "b", ("b", "Job", "etl")),
        ("shop/Deployment/feed", "other", ("shop", "Deployment", "feed")),
    ],
)
def test_services_are_named_as_people_do(name: str, namespace: str, found: tuple[str, str, str]) -> None:
    assert target_of(name, namespace) == found


@pytest.mark.parametrize("name", ["feed", "deploy/", "pod/x", "a/b/c/d", "shop/Pod/x"])
def test_other_names_are_refused_with_how_to_write_them(name: str) -> None:
    with pytest.raises(InputError, match="write deploy/NAME"):
        target_of(name, "shop")


def test_one_service_is_told_with_arithmetic_saving_and_how_to_apply() -> None:
    text = sizeview.text(told())
    assert "request cpu     8 cores -> 2." in text
    assert "x 1.1" in text
    assert "14 d, confidence 93%" in text
    assert "saves 5" in text
    assert "over 10 replicas; apply: in-place" in text
    assert "start-up peak 5Gi memory: kept apart" in text


def test_the_table_is_ordered_by_what_is_saved_and_adds_up() -> None:
    made = World()
    for index, cores in enumerate((2.0, 6.0, 1.0)):
        made.run(1, owner=f"Deployment/s{index}")
        made.weeks(cores=cores, key=f"shop/Deployment/s{index}")
    made.run(1, owner="Deployment/new")
    made.plan()
    lines = sizeview.table(list(made.told.values())).splitlines()
    assert [line.split()[0].rpartition("/")[2] for line in lines[1:5]] == ["s2", "s0", "s1", "new"]
    assert "preparing" in lines[4]
    assert lines[-1].startswith("4 services, 1 of them not known for long enough; together saves ")
    assert sizeview.as_json(list(made.told.values()))[0]["namespace"] == "shop"
    assert "no recommendations yet" in sizeview.table([])


def test_the_figure_has_a_panel_per_resource_its_lines_named_and_gaps_left_open() -> None:
    made = world()
    courses = [
        Course(
            container=one.container, resource=one.resource, start=one.start,
            avg=tuple(None if 50 < at < 60 else value for at, value in enumerate(one.avg)),
            max=tuple(None if 50 < at < 60 else value for at, value in enumerate(one.max)),
        )
        for one in made.ask(show=True).courses
    ]  # fmt: skip
    svg = sizefigure.draw("shop & feed", "saves", sizefigure.panels(made.told[FEED], courses))
    root = ET.fromstring(svg)
    texts = [node.text or "" for node in root.iter() if node.tag.endswith("text")]
    for word in ("shop & feed", "main: cpu", "main: memory", "request now 8 cores", "given back: "):
        assert any(word in text for text in texts), word
    assert sum(node.tag.endswith("polygon") for node in root.iter()) == 4  # two panels, each in two parts


def test_a_figure_of_nothing_says_so() -> None:
    assert "nothing was seen" in sizefigure.draw("x", "", [])


def rows(count: int, *, step: int = 300) -> str:
    return "timestamp,value\n" + "".join(f"{index * step},{2 + index % 5 / 10}\n" for index in range(count))


def test_a_record_of_ones_own_is_replayed_with_the_same_rule(tmp_path: Path) -> None:
    file, figure = tmp_path / "mine.csv", tmp_path / "out.svg"
    file.write_text(rows(1000))
    outcome = RUN.invoke(app, ["recommend", str(file), "--figure", str(figure)])
    assert outcome.exit_code == 0, outcome.output
    [line] = pastfile.read(str(file), file.read_text())
    found = pastfile.replayed(line, snug.PLUGIN, Aim())
    assert f"{found.last:.4g}" in outcome.output
    assert "unused, been exceeded" in outcome.output
    ET.parse(figure)


def test_an_export_names_workloads_and_their_requests(tmp_path: Path) -> None:
    file = tmp_path / "export.csv"
    lines = [f"{index * 300},n1,{1 + index % 3 / 10},feed,8" for index in range(400)]
    file.write_text("\n".join(["timestamp,node,cpu,workload,request", *lines]))
    outcome = RUN.invoke(app, ["recommend", str(file)])
    assert outcome.exit_code == 0, outcome.output
    assert "feed on n1" in outcome.output
    assert "request 8 -> 1." in outcome.output


def test_odd_steps_and_gaps_come_on_a_grid_that_divides_an_hour() -> None:
    series = pastfile.on_grid({1000.0 + 240 * index: float(index) for index in range(100) if not 40 <= index < 60}, "x")
    assert series.step == 300
    assert series.start % HOUR == 0
    assert any(value != value for value in series.values)  # noqa: PLR0124  NaN: unknown


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("timestamp,value\n1,x\n", "line 2: value 'x' is no number"),
        ("timestamp,value\nnoon,1\n", "line 2: timestamp 'noon' is neither"),
        ("timestamp,value\n1,1\n", "1 samples; at least two"),
        ("timestamp,value\n0,1\n300,1\n315360000,1\n", "longest gap is 3650 d, after 1970-01-01"),
        (rows(20), "at least 12 h are needed"),
        ("a,b\n1,2\n", "no column timestamp, node, cpu"),
    ],
)
def test_what_is_no_record_is_named(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "bad.csv"
    file.write_text(text)
    with pytest.raises(InputError, match=says):
        [pastfile.replayed(line, snug.PLUGIN, Aim()) for line in pastfile.read(str(file), text)]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["x.csv"], "no such file"),
        (["--apply"], "name a service"),
        (["deploy/x", "--apply", "--undo"], "not both"),
        (["deploy/x", "-o", "yaml"], "text or json"),
    ],
)
def test_questions_that_make_no_sense_are_refused(arguments: list[str], says: str) -> None:
    outcome = RUN.invoke(app, ["recommend", *arguments])
    assert isinstance(outcome.exception, InputError)
    assert says in str(outcome.exception)
