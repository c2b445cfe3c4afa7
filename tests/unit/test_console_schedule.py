"""`neap schedule` and the first line of `neap why pod`: what people read, and the state as a file."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from neap.common.bus.memory import MemoryBroker
from neap.common.contract.catalogue import CHANNELS, DRY_RUN, HEADROOM, NODE_USAGE, PLACEMENTS, STREAMS, TOPOLOGY
from neap.common.errors import InputError, SettingsError
from neap.common.model.explanation import Candidate, DryRun, DryRunAnswer, Explanation, NodeClassVerdict, Remedy, Term
from neap.common.model.placement import Checkpoint, Placed, Placement, Released
from neap.common.runtime.launch import find_room
from neap.common.runtime.service import Serve
from neap.console.core import explained
from neap.console.shell.saved import revived, save
from neap.console.shell.schedule import changed
from tests.unit.scheduler_world import a_guest, a_node, a_usage, an_offer, an_owner

OUT = NodeClassVerdict(
    plugin="fit", reason="cpu", nodes=3, example="n17", nearest="n17 has 6.5 of 32 cores free, 8 asked", alone=3
)
WAITS = Explanation(
    found=True, state="queued", name="shop/big", nodes=3, rejected=(OUT,), wakes_on=("free",),
    remedies=(Remedy(plugin="fit", reason="cpu", nodes=3, says="1.5 more cores free on n17"),),
)  # fmt: skip


def a_candidate(node: str, idle: float, cards: float) -> Candidate:
    terms = (
        Term(plugin="load_aware", weight=1.0, score=idle, contribution=idle / 4),
        Term(plugin="gpu_share", weight=3.0, score=cards, contribution=3 * cards / 4),
    )
    return Candidate(node=node, score=sum(term.contribution for term in terms), terms=terms)


def test_the_first_line_is_the_answer() -> None:
    best, second = a_candidate("n3", 50, 100), a_candidate("n7", 90, 60)
    placed = Explanation(
        found=True, state="placed", name="shop/cart-1", node="n3", at=51_131.0, nodes=24, feasible=18, best=best,
        second=second, reason="said so",
    )  # fmt: skip
    assert explained.headline(placed) == (
        "shop/cart-1 is on n3, placed there at 14:12:11; it would go there again (18 of 24 nodes fit; 20.0 ahead of n7)"
    )
    lines = explained.text(placed).split("\n")
    (shares,) = [line.split() for line in lines if "gpu_share" in line]
    assert shares == ["gpu_share", "x", "3", "100.0", "60.0", "+30.00"]
    assert [line.split() for line in lines if "together" in line] == [["together", "87.5", "67.5", "+20.00"]]
    assert lines[-1] == "  said then  said so"
    assert explained.headline(WAITS) == (
        "shop/big WAITS: none of 3 nodes takes it; 1.5 more cores free on n17 would do"
    )
    assert "3 nodes lack only this: fit cpu" in explained.text(WAITS)
    assert "nearest: n17 has 6.5 of 32 cores free, 8 asked" in explained.text(WAITS)


def test_a_dry_run_says_first_how_many_would_run_and_then_why_others_would_not() -> None:
    fits = Explanation(found=True, state="fits", name="shop/a", node="n1")
    short = Explanation(found=True, state="waiting", name="shop/b")
    lines = explained.dry_run([fits, WAITS, short], "on the live cluster").split("\n")
    assert lines[0] == "1 of 3 pods would run now (on the live cluster; nothing was placed)"
    assert lines[1].startswith("shop/big WAITS: ")
    assert lines[-2:] == ["and likewise shop/b", "shop/a would go to n1"]
    assert explained.dry_run([fits], "here").startswith("all 1 pods would run now")


def test_settings_are_changed_in_the_words_of_plugins() -> None:
    settings = find_room("scheduler").settings()
    new = changed(settings, {"gpu_share.weight": "2", "allocation.guests": "pack", "worth_waiting": "5"})
    assert (new.weights, new.tune, new.worth_waiting) == ({"gpu_share": 2.0}, {"allocation.guests": "pack"}, 5.0)
    assert changed(settings, {"append.waiting": "4", "scheduler.order": "fit"}).append.waiting == 4
    assert changed(new, {"fgd.weight": "1"}).weights == {"gpu_share": 2.0, "fgd": 1.0}
    for key, value in (("gpu_share.weight", "much"), ("batch", "-1"), ("append.nothing", "1")):
        with pytest.raises(SettingsError, match=key.split(".")[-1]):
            changed(settings, {key: value})


async def test_a_saved_state_answers_like_the_cluster_it_was_taken_from(tmp_path: Path) -> None:
    broker = MemoryBroker()
    reporter, scheduler, console = broker.bus("reporter"), broker.bus("scheduler"), broker.bus("console")
    await console.ensure(STREAMS, CHANNELS)
    for name in ("n1", "n2"):
        await reporter.put(TOPOLOGY.at(node=name), a_node(name, cores=8))
        await broker.bus("advisor").put(HEADROOM.at(node=name), an_offer(name, at=90.0, cores=2))
    held = [Placement(workload=an_owner(f"u{i}"), charged={"cpu": 3000, "memory": 1 << 30}) for i in range(4)]
    entries = [
        Checkpoint(at=10.0, source="scheduler", node="n1", placements=(held[0], held[1])),
        Placed(at=20.0, source="scheduler", node="n1", placement=held[2], reason="then"),
        Placed(at=20.0, source="scheduler", node="n2", placement=held[3], reason="then"),
        Released(at=30.0, source="scheduler", node="n1", uid="u0", reason="finished"),
    ]
    last: dict[str, int] = {}
    for number, entry in enumerate(entries):
        await scheduler.append(PLACEMENTS.at(node=entry.node), entry, seen=last.get(entry.node, 0), id=str(number))
        last[entry.node] = number + 1
    file = tmp_path / "state.jsonl"

    async def report() -> None:
        for _ in range(3):
            await reporter.publish(NODE_USAGE.at(node="n2"), a_usage("n2", at=95.0, cpu=7.9))
            await reporter.publish(NODE_USAGE.at(node="n1"), a_usage("n1", at=95.0, cpu=1.0))

    saving = asyncio.ensure_future(save(console, file, 100.0))
    while not saving.done():
        await report()
        await asyncio.sleep(0)
    assert await saving == f"{file}: 2 nodes (2 measured), 3 pods placed"
    asked = DryRun(workloads=(an_owner("a", cores=2), an_owner("b", cores=1), a_guest("g", cores=2)))
    routes = revived(file).routes
    answer = next(route.answer for route in routes if isinstance(route, Serve) and route.endpoint == DRY_RUN)
    told: DryRunAnswer = answer(asked)
    assert [(one.state, one.node) for one in told.answers[:2]] == [("fits", "n1"), ("waiting", "")]
    assert [one.plugin for one in told.answers[1].rejected] == ["fit", "load_aware"]
    assert told.answers[2].state == "fits"


async def test_a_file_that_is_no_state_is_refused_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "state.jsonl"
    head = b'{"neap":"schedule","format":1,"at":1.0,"nodes":1,"pods":0}\n'
    for text, said in (
        (b"", "not a saved state"),
        (b'{"neap":"schedule","format":9,"at":1.0,"nodes":1,"pods":0}\n', "not a saved state"),
        (head + b"{\n", "line 2"),
        (head + b'{"subject":"neap-topology/n1","seq":1,"message":{"at":"soon"}}\n', "neap-topology/n1"),
        (head + b'{"subject":"who.knows","seq":1,"message":{}}\n', "line 2: no channel carries 'who.knows'"),
    ):
        file.write_bytes(text)

        with pytest.raises(InputError, match=said):
            revived(file)
    with pytest.raises(InputError, match="cannot be read"):
        revived(tmp_path / "none")
