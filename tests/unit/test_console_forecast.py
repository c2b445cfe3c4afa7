"""`neap forecast` on somebody's file: the same code as the planner's, told in words and as a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from typer.testing import CliRunner

from neap.common.errors import InputError
from neap.common.model.forecast import CLUSTER_SCOPE
from neap.common.units import DAY
from neap.console.cli import app
from neap.console.core.foretold import amount, moment, read_column
from neap.console.shell.forecasting import forecast_file, named

STEPS = 288


def a_file(folder: Path, lines: Sequence[str]) -> Path:
    path = folder / "used.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def days(count: int) -> list[str]:
    values = 10 + 5 * np.sin(2 * np.pi * np.arange(count * STEPS) / STEPS)
    return ["timestamp,cpu", *(f"{1_700_000_100 + 300 * place},{value:.3f}" for place, value in enumerate(values))]


def test_a_file_is_told_with_its_card_its_next_hours_and_a_picture(tmp_path: Path) -> None:
    path, figure = a_file(tmp_path, days(4)), tmp_path / "out.svg"
    done = CliRunner().invoke(app, ["forecast", str(path), "--figure", str(figure)])
    assert done.exit_code == 0, done.output
    for word in ("used.csv", "1d from 2023-11-18", "yesterday", "it stays", "expected", "99 % below"):
        assert word in done.output
    texts = [part.text or "" for part in ET.fromstring(figure.read_text()).iter() if part.tag.endswith("text")]
    for word in ("used", "expected", "now", "expected from here"):
        assert word in texts


def test_as_json_it_is_the_message_of_the_bus(tmp_path: Path) -> None:
    told = json.loads(forecast_file(a_file(tmp_path, days(3)), "cpu", DAY / 24, figure=None, in_json=True))
    assert len(told["values"]) == len(told["p99"]) == 12
    assert told["cards"][0]["model"]


def test_rows_without_times_are_five_minutes_apart_and_lines_of_several_nodes_are_added_up() -> None:
    series, _ = read_column("value\n1\n2\n\n4\n", "cpu", "x")
    assert series.step == 300
    summed, _ = read_column("timestamp,node,cpu\n0,a,1\n0,b,2\n60,a,3\n60,b,4\n120,a,\n", "cpu", "x")
    assert summed.step == 60
    np.testing.assert_array_equal(summed.values, [3.0, 7.0])


def test_lines_that_are_out_of_order_missing_or_twice_are_put_on_their_grid_and_said() -> None:
    text = "timestamp,value\n2024-01-01 00:10:00,3\n2024-01-01 00:00:00,1\n2024-01-01 00:05:00,2\n2024-01-01 00:05:10,4\n2024-01-01 00:25:00,5\n"
    series, said = read_column(text, "cpu", "x")
    np.testing.assert_array_equal(np.isfinite(series.values[-1:]), [True])
    assert series.values[0] == 1.0
    assert any("several samples" in line for line in said) or len(series) > 4


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a,b\n1,2\n", "no column 'cpu' or 'value'"),
        ("timestamp,cpu\nyesterday,2\n", "line 2: 'yesterday' is no time"),
        ("timestamp,cpu\n0,much\n", "line 2, cpu: 'much' is no number"),
        ("", "there are: none"),
    ],
)
def test_a_file_that_does_not_hold_is_refused_by_line_and_reason(text: str, why: str) -> None:
    with pytest.raises(InputError, match=why.replace("(", r"\(")):
        read_column(text, "cpu", "used.csv")


def test_a_file_without_any_value_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no samples"):
        forecast_file(a_file(tmp_path, ["timestamp,cpu", "0,NaN"]), "cpu", DAY, figure=None, in_json=False)
    with pytest.raises(InputError, match="cannot be read"):
        forecast_file(tmp_path / "none.csv", "cpu", DAY, figure=None, in_json=False)


def test_what_is_named_is_a_service_a_node_a_pool_or_the_cluster() -> None:
    assert named("shop/Deployment/cart") == ("shop", "Deployment", "cart")
    assert named("node/n1") == (CLUSTER_SCOPE, "Node", "n1")
    assert named("pool/web") == (CLUSTER_SCOPE, "NodePool", "web")
    assert named("cluster") == (CLUSTER_SCOPE, "Cluster", "cluster")
    with pytest.raises(InputError, match="NAMESPACE/KIND/NAME"):
        named("cart")


def test_times_and_amounts_read_as_people_write_them() -> None:
    assert moment(7 * DAY + 3600) == "day 8 01:00"
    assert moment(1_700_000_000) == "2023-11-14 22:13"
    assert amount(3 * 2**30, "memory") == "3.00 GiB"
    assert amount(1.23456, "cpu") == "1.235"
