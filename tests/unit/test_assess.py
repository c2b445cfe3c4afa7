"""`neap assess`: an export of somebody's cluster, what it says, and what is wrong with it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from neap.common.errors import InputError
from neap.console.core.export import Export, loads_of, read_file
from neap.console.core.overlap import told_once
from neap.console.core.strategies.history import history_of
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
        ("u.csv", "timestamp,node,cpu\n1700000000000,a,1", ["u.csv: line 2", "timestamp", "milliseconds"]),
        (
            "u.json",
            answer(matrix([[1_700_000_000_000, "1"]], node="a")),
            ["series 0", "time of value 0", "milliseconds"],
        ),
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


def every(*values: float, cpu: str = "", request: str = "", capacity: int = 8, step: int = 300) -> str:
    """A CSV of node a, a value every `step` seconds."""
    lines = [f"{step * i},a,{value},{cpu or 'w'},{request},{capacity}" for i, value in enumerate(values)]
    return "\n".join(["timestamp,node,cpu,workload,request,capacity", *lines])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (every(*range(40), capacity=64), "workload w: only ever rises, as do 1 of 1 series: counters, not cores"),
        (every(*range(20), 0, *range(60), capacity=64), "counters, not cores"),  # restarted once
        (every(1, 2, 1, capacity=64_000), "node a: is told to have 64000 CPUs: is its capacity in cores"),
        (every(1, 2, 1, request="2000"), "node a: is asked for 2000 cores of 8: are requests in cores"),
    ],
)
def test_what_is_in_another_unit_is_refused(content: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        history_of(export(u__csv=content), 0)


def test_a_load_that_rises_all_day_is_no_counter() -> None:
    day = [10 + 5 * math.sin(i / 46) + (0.2 if i % 3 else 0.0) for i in range(288)]
    assert history_of(export(u__csv=every(*day, capacity=64)), 0).count == 288


def test_what_is_missing_or_fits_nothing_is_said() -> None:
    lines = ["timestamp,node,cpu,workload", *(f"{300 * i},a,{'' if 5 < i < 9 else 1},w" for i in range(20))]
    lines += [f"{300 * i},a,1,full" for i in range(20)] + [f"{900 * i},a,1,rare" for i in range(6)]
    asked = json.dumps({"resultType": "matrix", "result": [matrix([[0, "2"]], node="a", namespace="x", pod="gone")]})
    notes = "\n".join(history_of(export(u__csv="\n".join(lines), requests__json=asked), 8).notes)
    assert "% of the values between the first and the last of a series are missing: unknown, not zero" in notes
    assert "1 series have a value less often than every 300 s" in notes
    assert "1 requests are of no series of usage" in notes


def test_a_time_without_a_zone_is_utc() -> None:
    found = export(u__csv="timestamp,node,cpu\n2024-01-01T00:00:00,a,1\n2024-01-01T00:05:00,a,2")
    assert min(found.used["a"]["all"]) == 1_704_067_200.0


def test_of_two_samples_in_one_place_of_the_grid_the_higher_counts() -> None:
    lines = ["timestamp,node,cpu", *(f"{60 * i},a,1" for i in range(5)), "250,a,7"]
    (load,), _ = loads_of(export(u__csv="\n".join(lines)), 8)
    assert load.owners[0].used == (1.0, 1.0, 1.0, 1.0, 7.0)


# -- what is told twice ----------------------------------------------------------------------------------------------

POD = {"node": "a", "namespace": "shop", "pod": "cart-0"}


def cadvisor() -> Export:
    """As cAdvisor tells a node: its containers, their pod, the pause container, and the node over all."""
    return export(
        usage__json=answer(
            matrix(samples([2.0, 3.0, 2.0]), **POD, container="main"),
            matrix(samples([0.5, 0.5, 0.5]), **POD, container="proxy"),
            matrix(samples([0.1, 0.1, 0.1]), **POD, container="POD"),
            matrix(samples([2.6, 3.6, 2.6]), **POD),
            matrix(samples([4.0, 5.0, 3.0]), node="a"),
        ),
        requests__json=answer(matrix(samples([4.0]), **POD, container="main"), matrix(samples([5.0]), node="a")),
    )


def test_what_an_export_tells_twice_counts_once() -> None:
    once = told_once(cadvisor())
    assert set(once.used["a"]) == {"shop/cart-0/main", "shop/cart-0/proxy", "all"}
    total = [sum(line[at] or 0.0 for line in once.used["a"].values()) for at in sorted(once.used["a"]["all"])]
    assert total == pytest.approx([4.0, 5.0, 3.0]), "the node's own series is all there is"
    assert once.requests["a"] == {"shop/cart-0/main": 4.0, "all": 1.0}
    assert sum(once.left_out.values()) == 3


def test_a_node_is_as_busy_as_it_says_whatever_else_the_export_tells_of_it(tmp_path: Path) -> None:
    whole = [[at, str(cores)] for at, cores in samples([4.0, 5.0, 3.0] * 8)]
    part = [[at, str(float(cores) / 2)] for at, cores in whole]
    (tmp_path / "usage.json").write_text(
        answer(matrix(whole, node="a"), matrix(part, **POD, container="main"), matrix(part, **POD))
    )
    told = json.loads(assess_folder(tmp_path, ask=Ask(cores=8), policies=["neap"], strategies=["lend"], in_json=True))
    assert told["lend"]["total"][0]["owners"] == pytest.approx(0.5, abs=0.03)
    assert any("a sum of others" in note for note in told["notes"])


def test_a_node_of_which_only_the_sum_is_told_keeps_it() -> None:
    sums = export(usage__json=answer(matrix(samples([4.0, 5.0]), node="a")))
    assert told_once(sums).used == sums.used


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
