"""A usage export becomes the planner's past: whose use it is, what is missing, what is left out."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from neap.common.errors import InputError
from neap.common.runtime.machine import Arrived
from neap.console.core.export import Export, read_file
from neap.console.core.imported import Account, account, messages, told
from neap.console.shell.importing import import_history
from tests.unit.history_world import CART, GIB, START, HistoryWorld

BEGIN = START - 2 * 3600
CLOSE = 4e-4


def series(values: list[float | None], *, start: float = BEGIN, step: float = 300.0, **labels: str) -> dict[str, Any]:
    pairs = [[start + step * i, "NaN" if value is None else str(value)] for i, value in enumerate(values)]
    return {"metric": {"node": "n1"} | labels, "values": pairs}


def answer(*of: Any) -> str:
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": list(of)}})


def read(*of: Any, resource: str = "cpu", **files: str) -> Account:
    export = Export()
    read_file("usage.json", answer(*of), export)
    for name, content in files.items():
        read_file(f"{name}.json", content, export)
    return account(export, resource)


def learnt(*found: Account) -> HistoryWorld:
    """What a planner makes of it."""
    world = HistoryWorld()
    for one in found:
        for message, _ in messages(one, START):
            world.hear(Arrived(START, message))
    return world


def pod(name: str, container: str = "main", **more: str) -> dict[str, str]:
    return {"namespace": "shop", "pod": name, "container": container} | more


def test_pods_containers_become_a_services_histogram_and_total() -> None:
    cpu = read(
        series([1.0] * 24, **pod("cart-7c9fd6b58-x2x4v")),
        series([3.0] * 24, **pod("cart-7c9fd6b58-aaaaa", node="n2")),
        series([0.1] * 24, **pod("cart-7c9fd6b58-x2x4v", "proxy")),
        series([9.0] * 24, **pod("cart-7c9fd6b58-x2x4v", "POD")),
        requests=answer(series([2.0], **pod("cart-7c9fd6b58-x2x4v"))),
    )
    memory = read(series([2.0 * GIB] * 24, **pod("cart-7c9fd6b58-x2x4v")), resource="memory")
    world = learnt(cpu, memory)
    total, replicas = world.history.total(CART, "cpu"), world.history.replicas(CART)
    record, node = world.history.container(CART, "main"), world.history.node("n2", "cpu")
    assert total is not None
    assert replicas is not None
    assert record is not None
    assert node is not None
    assert total.values == pytest.approx([4.1] * 24, rel=CLOSE)
    assert list(replicas.values) == [2.0] * 24
    assert record.cpu.hours_avg.values == pytest.approx([2.0, 2.0], rel=CLOSE)
    assert record.memory.hours_max.values == pytest.approx([2.0 * GIB] * 2, rel=CLOSE)
    assert node.values == pytest.approx([3.0] * 24, rel=CLOSE)
    assert [line.request for line in cpu.lines if line.container == "main"] == [2.0, None]
    said = told(cpu, 5)
    assert "skipped: 1 series: a pod's pause container" in said
    assert "assumed: 3 series: a pod is of the Deployment its name speaks of" in said


@pytest.mark.parametrize(
    ("labels", "key"),
    [
        (pod("db-0", ""), "shop/StatefulSet/db"),
        (pod("once", ""), "shop/Pod/once"),
        ({"namespace": "shop", "workload": "cart"}, CART),
        ({"namespace": "shop", "workload": "log", "workload_type": "daemonset"}, "shop/DaemonSet/log"),
    ],
)
def test_a_series_is_whose_its_labels_say(labels: dict[str, str], key: str) -> None:
    world = learnt(read(series([1.0, 2.0, 3.0], **labels)))
    total = world.history.total(key, "cpu")
    assert total is not None
    assert total.values == pytest.approx([1.0, 2.0, 3.0], rel=CLOSE)
    assert world.history.containers(key) == ()


def test_pods_without_containers_are_summed_and_gaps_stay_unknown() -> None:
    found = read(
        series([1.0, 1.0, None, 1.0], **pod("cart-7c9fd6b58-x2x4v", "")),
        series([2.0, 2.0], **pod("cart-7c9fd6b58-bbbbb", "")),
    )
    total = learnt(found).history.total(CART, "cpu")
    assert total is not None
    assert total.values == pytest.approx([3.0, 3.0, float("nan"), 1.0], rel=CLOSE, nan_ok=True)
    assert "shop/Deployment/cart: 1 of 4" in told(found, 1)


def test_what_cannot_be_used_is_named() -> None:
    found = read(
        series([1.0], namespace="shop", workload="short"),
        series([1.0, 2.0], workload="nowhere"),
        series([1.0, 2.0], namespace="shop", container="main"),
        series([1.0, 2.0], namespace="shop", workload="white space"),
        {
            "metric": {"node": "n1", "namespace": "shop", "workload": "far"},
            "values": [[0, "1"], [1, "1"], [2, "1"], [1e9, "1"]],
        },
    )
    assert sum(found.skipped.values()) == 5
    said = told(found, 0)
    for reason in (
        "1 values: no series",
        "no label namespace",
        "no label workload or pod",
        "no usable name",
        "more than",
    ):
        assert reason in said


def test_a_long_line_is_told_in_pieces_that_are_stored_once() -> None:
    found = read(series([1.0] * 25_000, step=60.0, start=START - 25_000 * 60, namespace="shop", workload="cart"))
    pieces = list(messages(found, START))
    assert [len(message.values) for message, _ in pieces] == [10_000, 10_000, 5_000] * 2
    assert len({id for _, id in pieces}) == 6
    assert [id for _, id in messages(found, START + 99)] == [id for _, id in pieces]
    total = learnt(found).history.total(CART, "cpu")
    assert total is not None
    assert len(total) == 5_000


def test_a_folder_is_read_by_resource_and_a_dry_run_tells_nobody(tmp_path: Path) -> None:
    (tmp_path / "usage.json").write_text(answer(series([1.0] * 3, **pod("db-0"))))
    (tmp_path / "memory.json").write_text(answer(series([1e9] * 3, **pod("db-0"))))
    (tmp_path / "notes.txt").write_text("nothing")
    said = asyncio.run(import_history(tmp_path, "nats://127.0.0.1:1", is_dry=True))
    assert "cpu: 3 samples; 1 services in 1 lines, 1 nodes" in said
    assert "memory: 3 samples" in said
    assert said.endswith("nothing was sent (--dry-run)")
    with pytest.raises(InputError, match="there is no such folder"):
        asyncio.run(import_history(tmp_path / "absent", "", is_dry=True))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no usage in any file"):
        asyncio.run(import_history(tmp_path / "empty", "", is_dry=True))
