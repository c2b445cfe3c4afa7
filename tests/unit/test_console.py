"""What the console shows, from what it read: progress, table, picture, nodes."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import msgspec

from neap.common.model.advice import Headroom, NodeAdvice, PoolAdvice
from neap.common.model.day import DayReport
from neap.common.model.enforcement import NodeEnforcement, Rung, Stance
from neap.common.model.lifecycle import Ended, EndReason, Submitted
from neap.common.model.placement import Placed, Placement
from neap.common.model.qos import QosClass
from neap.common.model.trail import ObjectRef, TrailEntry
from neap.common.model.usage import ContainerUsage, NodeUsage, Stall
from neap.common.model.workload import Workload
from neap.console.core.figure import Sample, draw
from neap.console.core.nodeview import NodeView
from neap.console.core.progress import Progress, one_line
from neap.console.core.summary import DayOutcome, PlannerPart, plain_table, totals
from neap.console.core.topview import HEADINGS, TopView
from neap.console.shell.watcher import Placing

REPORT = DayReport(
    at=43_200.0,
    source="virtual",
    day_start=0.0,
    day_end=86_400.0,
    nodes=2,
    capacity_cores=100.0,
    core_seconds={"shared_cores": 25 * 43_200.0, "reclaimed_cores": 40 * 43_200.0},
    recent_cores={"shared_cores": 20.0, "reclaimed_cores": 50.0},
    service_minutes=1000,
    violation_minutes=5,
    started=9,
    finished=3,
    evictions={"reclaimed_overuse": 2},
    lost_core_seconds=7200.0,
    running={"shared_cores": 4, "reclaimed_cores": 5},
)


def an_act(what: str, why: str, name: str = "g1") -> TrailEntry:
    about = ObjectRef(namespace="batch", name=name, uid=name)
    return TrailEntry(at=60.0, source="evictor", id=f"{name}.{what}", about=about, what=what, why=why)


def test_the_table_compares_both_runs_and_says_where_the_journal_lies() -> None:
    alone = msgspec.structs.replace(
        REPORT, core_seconds={"shared_cores": 25 * 43_200.0}, evictions={}, violation_minutes=0
    )
    outcome = DayOutcome(
        nodes=2, cores=100.0, seed=1, with_guests=totals(REPORT), online_only=totals(alone), placements=9,
        waited={"guests": (60.0, 5400.0)}, placements_per_second=4.0, journal="j.jsonl",
    )  # fmt: skip
    text = plain_table(outcome)
    for said in (
        "25.0%",
        "65.0%  (2.60 x)",
        "480",
        "5 of 1000  (0.500%)",
        "0 of 1000  (0.000%)",
        "1m / 1h30m of the day",
        "j.jsonl",
    ):
        assert said in text


def test_the_second_table_says_what_the_planner_changes() -> None:
    planned = msgspec.structs.replace(
        REPORT, core_seconds={"shared_cores": 30 * 43_200.0, "reclaimed_cores": 45 * 43_200.0}, violation_minutes=3
    )
    part = PlannerPart(nodes=2, without=totals(REPORT), planned=totals(planned))
    outcome = DayOutcome(
        nodes=24, cores=100.0, seed=1, with_guests=totals(REPORT), online_only=totals(REPORT), placements=9, waited={},
        placements_per_second=4.0, journal="j.jsonl", planner=part,
    )  # fmt: skip
    text = plain_table(outcome)
    for said in ("without planner", "with planner", "on 2 virtual nodes", "(+10.0 points)", "3 of 1000  (0.300%)"):
        assert said in text
    assert part.said == "the planner: +10.0 points of utilisation, -2 owner SLO-violation minutes"


def test_progress_tells_one_squeeze_once_and_remembers_an_evicted_guest_to_ask_about() -> None:
    progress = Progress()
    assert one_line(progress) == "starting"
    progress.see(REPORT)
    progress.see(Headroom(at=1.0, source="advisor", node="n1", offer={"neap.io/reclaimed-cpu": 8000}, arithmetic={}))
    for name in ("g1", "g2", "g3"):
        progress.see(an_act("squeezed", "8 CPUs instead of 12", name))
    progress.see(an_act("evicted", "stopped it", "g2"))
    assert len(progress.acts) == 2
    assert progress.hints() == ["try: neap why pod batch/g2"]
    facts = dict(progress.facts())
    assert "50.0%" in facts["guests"]
    assert "8 cores offered to guests on 1 nodes" in facts["headroom"]
    assert "50%  owners 20.0%  guests 50.0%" in one_line(progress)


def test_the_picture_is_svg_with_both_layers_and_a_mark_per_minute_of_eviction() -> None:
    samples = [Sample(60.0 * i, 0.25, 0.4, i // 10) for i in range(30)]
    root = ET.fromstring(draw(samples, length=1800.0, title="a <day>", online_only=0.25))
    assert len(root.findall("{*}polygon")) == 2
    assert [line.get("stroke") for line in root.findall("{*}line")].count("#d1495b") == 2
    assert "a <day>" in [text.text for text in root.findall("{*}text")]
    assert ET.fromstring(draw([], length=1800.0, title="nothing", online_only=0.0)).tag.endswith("svg")


def test_a_node_that_says_nothing_is_unknown_and_not_zero() -> None:
    view = TopView()
    view.see(NodeUsage(at=5.0, source="reporter", node="n2", seq=1, period=1.0))
    used = ContainerUsage(uid="u", container="c", cgroup="x", cpu=1.5)
    view.see(
        NodeUsage(
            at=9.0,
            source="reporter",
            node="n10",
            seq=1,
            period=1.0,
            cpu=2.0,
            cpu_stall=Stall(some10=0.5),
            containers=(used,),
        )
    )
    rows = [dict(zip(HEADINGS, row, strict=True)) for row in view.rows(10.0)]
    assert [row["node"] for row in rows] == ["n2", "n10"]
    assert (rows[0]["busy"], rows[0]["offer"], rows[0]["stalled"], rows[0]["age"]) == ("?", "?", "?", "5 s")
    assert (rows[1]["busy"], rows[1]["owners"], rows[1]["stalled"]) == ("2.0", "1.5", "50%")


def test_a_node_tells_its_pools_its_offer_and_how_advice_reaches_it() -> None:
    view = NodeView("n1")
    pools = (
        PoolAdvice(
            name="share", cpus="1-6", requirement=5.2, reason="6 CPUs for 5.2 = 4.0 online x 1.05 + 1.0 reserve"
        ),
        PoolAdvice(name="reclaimed", cpus="", requirement=0.0, reason="nothing is left"),
    )
    view.see(NodeAdvice(at=90.0, source="advisor", node="n1", seq=7, expires=120.0, pools=pools, cgroups=()))
    offer = {"neap.io/reclaimed-cpu": 1000}
    sums = {"neap.io/reclaimed-cpu": "1.0 = 8.0 capacity − 7.0 online"}
    view.see(Headroom(at=90.0, source="advisor", node="n1", offer=offer, arithmetic=sums))
    view.see(
        NodeEnforcement(
            at=60.0,
            source="enforcer",
            node="n1",
            rung=Rung.CGROUP,
            stance=Stance.FOLLOWING,
            why="advice 7",
            probes={Rung.NRI: "no socket at /var/run/nri/nri.sock"},
            unsupported={"resctrl": "not mounted"},
        )
    )
    said = view.text(100.0).splitlines()
    assert said == [
        "n1  (its topology is unknown)",
        "",
        "pools        share        1-6     6 CPUs for 5.2 = 4.0 online x 1.05 + 1.0 reserve",
        "             reclaimed    no CPU  nothing is left",
        "advice       7, valid for 20s",
        "offer        reclaimed-cpu      1.0 = 8.0 capacity − 7.0 online",
        "enforcement  cgroup, following for 40s: advice 7",
        "             nri: no socket at /var/run/nri/nri.sock",
        "             resctrl unsupported: not mounted",
        "usage        unknown: no report heard",
    ]


def test_lapsed_advice_is_shown_as_such() -> None:
    view = NodeView("n1")
    view.see(
        NodeAdvice(at=0.0, source="advisor", node="n1", seq=7, expires=30.0, pools=(), cgroups=(), stale="no report")
    )
    assert "advice       7, lapsed 1m30s ago; conservative: no report" in view.text(120.0)


def test_a_node_nobody_spoke_of_is_not_known() -> None:
    assert not NodeView("n9").is_known


def test_who_still_waits_at_the_end_of_the_day_has_waited_too() -> None:
    placing = Placing()
    guests = [
        Workload(uid=uid, namespace="batch", name=uid, qos=QosClass.RECLAIMED, containers=()) for uid in ("a", "b", "c")
    ]
    for guest in guests:
        placing.see(Submitted(at=100.0, source="", workload=guest), 0.0)
    placement = Placement(workload=guests[0], charged={})
    placing.see(Placed(at=160.0, source="", node="n1", placement=placement, reason=""), 1.0)
    placing.see(Ended(at=200.0, source="", uid="c", node="", attempt=1, reason=EndReason.DELETED), 2.0)
    assert placing.waits(3700.0) == {"guests": (3600.0, 3600.0)}, "a waited a minute, b an hour, c was taken back"
    assert placing.per_second == {1: 1}


def test_who_was_there_before_the_day_waits_from_its_beginning_on() -> None:
    placing = Placing(begin=1000.0)
    owners = [
        Workload(uid=uid, namespace="shop", name=uid, qos=QosClass.SHARED, containers=()) for uid in ("a", "b", "c")
    ]
    for owner in owners:
        placing.see(Submitted(at=100.0, source="", workload=owner), 0.0)
    for owner, at in zip(owners, (400.0, 1060.0, 1120.0), strict=True):
        placement = Placement(workload=owner, charged={})
        placing.see(Placed(at=at, source="", node="n1", placement=placement, reason=""), 0.0)
    assert placing.waits(3700.0) == {"owners": (60.0, 120.0)}
