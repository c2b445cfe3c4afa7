"""`neap assess`: an export of somebody's cluster, what it says, and what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from neap.common.errors import InputError
from neap.console.core.export import Export, loads_of, read_file
from neap.console.core.strategies.lending import Ask
from neap.console.shell.assessing import assess_folder

HOUR = [10.0, 12.0, 11.0, 30.0] * 3


def matrix(values: list[Any], **labels: str) -> dict[str, Any]:
    return {"metric": labels, "values": values}


def answer(*series: Any) -> str:
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": list(series)}})


def samples(cores: list[float]) -> list[list[Any]]:
    return [[1_700_000_000 + 300 * i, str(value)] for i, value in enumerate(cores)]


def export(**files: str) -> Export:
    found = Export()
    for name, content in files.items():
        read_file(name.replace("__", "."), content, found)
    return found


def test_series_of_a_node_become_its_workloads_on_one_grid() -> None:
    found = export(
        usage__json=answer(
            matrix(samples([1.0, 2.0, 3.0]), node="a", namespace="shop", pod="cart"),
            matrix(samples([5.0]), node="a", namespace="shop", pod="late"),
        ),
        capacity__json=answer(matrix(samples([32.0]), node="a")),
        requests__json=answer(matrix(samples([4.0]), node="a", namespace="shop", pod="cart")),
    )
    (load,), notes = loads_of(found, 0)
    assert (load.node, load.capacity, load.step) == ("a", 32, 300.0)
    cart, late = load.owners
    assert (cart.name, cart.request, cart.used) == ("shop/cart", 4.0, (1.0, 2.0, 3.0))
    assert late.used == (5.0, 0.0, 0.0)  # it ended
    assert late.request == pytest.approx(5.0 / 0.65)
    assert any("1 workloads" in note for note in notes)


def test_a_csv_says_the_same_and_a_missing_sample_is_unknown() -> None:
    lines = ["timestamp,node,workload,cpu,request,capacity", "0,a,w,1.5,4,16", "60,a,w,,4,16", "120,a,w,NaN,4,16"]
    (load,), _ = loads_of(export(u__csv="\n".join([*lines, "180,a,w,2,4,16"])), 0)
    assert load.owners[0].used == (1.5, None, None, 2.0)
    assert (load.owners[0].request, load.capacity) == (4.0, 16)
    iso = "timestamp,node,cpu\n2024-01-01T00:00:00+00:00,a,1\n2024-01-01T00:05:00+00:00,a,2"
    assert loads_of(export(u__csv=iso), 8)[0][0].step == 300.0


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("u.json", "{", ["u.json", "no JSON"]),
        ("u.json", "[]", ["u.json", "matrix"]),
        ("u.json", '{"status":"error","error":"bad query"}', ["u.json", "bad query"]),
        ("u.json", '{"data":{"resultType":"vector","result":[]}}', ["u.json", "'vector'"]),
        ("u.json", answer(matrix(samples([1.0]), pod="p")), ["u.json: series 0", "names no node"]),
        ("u.json", answer({"metric": {}}), ["u.json: series 0", "metric and values"]),
        ("u.json", answer(matrix([[1, "x"]], node="a")), ["series 0", "value 0", "'x'"]),
        ("u.json", answer(matrix([[1]], node="a")), ["series 0", "value 0", "[time, value]"]),
        ("u.json", answer(matrix([[1, "-2"]], node="a")), ["series 0", "value 0", "below zero"]),
        ("u.json", answer(matrix([[1, "+Inf"]], node="a")), ["series 0", "value 0", "inf"]),
        ("u.json", answer(matrix([[1, "1"], [1, "2"]], node="a")), ["series 0", "two samples"]),
        ("capacity.json", answer(matrix([[1, "NaN"]], node="a")), ["capacity.json: series 0", "not one value"]),
        ("u.csv", "", ["u.csv: line 1", "timestamp"]),
        ("u.csv", "timestamp,node\n", ["u.csv: line 1", "no column cpu"]),
        ("u.csv", "timestamp,node,cpu\nsoon,a,1", ["u.csv: line 2", "'soon'"]),
        ("u.csv", "timestamp,node,cpu\n1,a,much", ["u.csv: line 2", "cpu", "'much'"]),
        ("u.csv", "timestamp,node,cpu\n1,,1", ["u.csv: line 2", "node is empty"]),
        ("u.csv", "timestamp,node,cpu\n1,a", ["u.csv: line 2", "fields"]),
        ("u.csv", "timestamp,node,cpu\n1,a,1,9", ["u.csv: line 2", "fields"]),
    ],
)
def test_what_does_not_hold_is_refused_with_its_place(name: str, content: str, told: list[str]) -> None:
    with pytest.raises(InputError) as refused:
        read_file(name, content, Export())
    assert all(part in str(refused.value) for part in told), refused.value


@pytest.mark.parametrize(
    ("content", "cores", "told"),
    [
        ("timestamp,node,cpu", 8, "no usage"),
        ("timestamp,node,cpu\n0,a,1\n60,a,1", 0, "node a: its CPUs are not told"),
        ("timestamp,node,cpu\n0,a,1", 8, "node a: fewer than two samples"),
        ("timestamp,node,cpu\n0,a,100\n60,a,1", 8, "node a: uses 100.0 cores of 8"),
        ("timestamp,node,cpu\n0,a,1\n1,a,1\n2,a,1\n9000000,a,1", 8, "node a: 9000001 samples"),
    ],
)
def test_an_export_that_cannot_be_replayed_names_the_node(content: str, cores: int, told: str) -> None:
    with pytest.raises(InputError, match=told):
        loads_of(export(u__csv=content), cores)


def test_a_folder_is_assessed_under_every_policy_and_says_what_was_assumed(tmp_path: Path) -> None:
    (tmp_path / "usage.json").write_text(answer(matrix(samples(HOUR), node="a"), matrix(samples(HOUR), instance="b")))
    (tmp_path / "notes.txt").write_text("ignored")
    (tmp_path / "memory.json").write_text("of memory: not read here")
    ask = Ask(cores=64, nodes=10, period=60.0)
    told = assess_folder(tmp_path, ask=ask, policies=["static", "peer", "neap"], strategies=["lend"], in_json=False)
    assert "2 nodes" in told
    assert all(f"\n{policy} " in told for policy in ("static", "peer", "neap"))
    assert "64 CPUs where not told" in told
    ask = Ask(cores=64, nodes=1, period=60.0)
    plain = json.loads(assess_folder(tmp_path, ask=ask, policies=["neap"], strategies=["lend"], in_json=True))
    assert plain["lend"]["total"][0]["owners"] == pytest.approx(15.75 / 64, rel=0.2)
    assert any("1 of 2 nodes" in note for note in plain["lend"]["notes"])


def test_a_folder_without_an_export_is_refused(tmp_path: Path) -> None:
    def assess(folder: Path, *strategies: str) -> str:
        return assess_folder(folder, ask=Ask(cores=8), policies=["neap"], strategies=strategies, in_json=False)

    with pytest.raises(InputError, match="no file that ends in"):
        assess(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        assess(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no such strategy.*lend, sizes, overcommit, scaling, tide, forecast"):
        assess(tmp_path, "magic")
    (tmp_path / "u.csv").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(InputError, match=r"u\.csv: no UTF-8"):
        assess(tmp_path)
