"""`neap why pod` of an evicted guest: the answer first, then the story; the ranking of all only where it is asked for."""

from __future__ import annotations

from neap.common.model.lifecycle import Contender, Eviction, Measured, Spent, Tried
from neap.common.model.trail import ObjectRef, TrailEntry
from neap.console.core import story

REASON = "guests asked for 8.0 cores, 1.5 × the 4.0 lent is allowed, for 5 reports (5s)"
POLICY = "ratio = 1.5 by policy batch-canary v3 (pool=batch)"


def a_contender(uid: str, **more: object) -> Contender:
    return Contender(
        uid=uid, name=f"batch/{uid}", qos="reclaimed_cores", priority=0, oom_priority=-100, age=61.0, **more
    )  # type: ignore[arg-type]


def a_command(*, others: int = 4, policies: tuple[str, ...] = (POLICY,)) -> Eviction:
    return Eviction(
        at=60.0,
        source="evictor",
        node="n1",
        uid="a",
        namespace="batch",
        name="a",
        attempt=2,
        rule="reclaimed_overuse",
        reason=REASON,
        measured=(Measured(metric="reclaimed cores sold", value=8, threshold=6, window=4.0),),
        ranking="lowest priority 0; youngest of 5: 1m1s",
        grace=30.0,
        tried=(
            Tried(what="throttle", says="guests' CPUs cut from 24 to 6", since=10.0),
            Tried(what="reclaim", says="no"),
        ),
        contenders=(a_contender("a", frees=4000), *(a_contender(f"b{i}", overuse=1.5) for i in range(others))),
        budgets=(Spent(scope="node", spent=1, most=2, window=600.0),),
        policies=policies,
    )


def an_entry(what: str, at: float, source: str = "evictor", eviction: Eviction | None = None) -> TrailEntry:
    about = ObjectRef(namespace="batch", name="a", uid="a")
    why = f"{eviction.rule}: {eviction.reason}; and more" if eviction is not None else f"{what} because"
    return TrailEntry(
        at=at, source=source, id=f"{what}.{at}", about=about, what=what, why=why, node="n2", eviction=eviction
    )


def told(command: Eviction, *, verbose: bool = False) -> list[str]:
    entries = [
        an_entry("placed", 0.0, "scheduler"),
        an_entry("chosen for eviction", 60.0, eviction=command),
        an_entry("evicted", 61.0, "virtual"),
        an_entry("advised", 62.0, "advisor"),
        an_entry("placed", 90.0, "scheduler"),
    ]
    return story.tell("batch/a", entries, verbose=verbose).splitlines()


def test_the_block_names_rule_numbers_policy_alternatives_budgets_and_what_came_of_it() -> None:
    lines = told(a_command())
    assert lines[1] == "EVICTED 00:01:00 from n1 by rule reclaimed_overuse, attempt 2"
    assert lines[2 : lines.index("")] == [
        f"  why        {REASON}",
        "  measured   reclaimed cores sold 8, threshold 6 over 4s",
        f"  policy     {POLICY}",
        "  why this   lowest priority 0; youngest of 5: 1m1s",
        "  tried      throttle: guests' CPUs cut from 24 to 6",
        "             reclaim: no",
        "  budgets    node 1 of 2 in 10m",
        "  grace      30s between TERM and KILL",
        "  others     batch/b0, batch/b1, batch/b2 and 1 more (--verbose: their ranking)",
        "  then       evicted 00:01:01 on n2; placed 00:01:30 on n2",
    ]


def test_without_a_policy_it_says_so() -> None:
    assert "  policy     none: the node's own settings hold" in told(a_command(policies=()))


def test_the_ranking_of_all_is_for_who_asks() -> None:
    plain, verbose = told(a_command()), told(a_command(), verbose=True)
    assert not any("over-use" in line for line in plain)
    ranking = [line for line in verbose if "over-use" in line]
    assert [line.split()[1 if "ranking" not in line else 2] for line in ranking] == [
        f"batch/{u}" for u in ("a", "b0", "b1", "b2", "b3")
    ]
    assert ranking[0].endswith("<- this one")
    assert any("and more" in line for line in verbose)
    assert not any("and more" in line for line in plain), "what is told above is not told again"


def test_a_guest_that_was_alone_and_one_that_was_never_evicted() -> None:
    assert "  others     nobody else could have gone" in told(a_command(others=0))
    lines = story.tell("batch/a", [an_entry("placed", 0.0, "scheduler")]).splitlines()
    assert not any(line.startswith("EVICTED") for line in lines)
