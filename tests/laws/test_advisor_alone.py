"""Laws of what is lent behind owners that have NUMA nodes alone: whatever is measured, whatever they asked for."""

from __future__ import annotations

import math
import re

from hypothesis import given
from hypothesis import strategies as st

from neap.advisor.core.policy import AloneView, PodView
from neap.advisor.plugins.headroom_exclusive import Settings, advise
from neap.common.cpuset import parse_cpuset
from tests.unit.test_advisor_node import Node
from tests.unit.test_advisor_numa import ALONE, DEDICATED, RECLAIMED, a_pod

CORES = st.floats(0, 64, width=32)
NUMBER = re.compile(r"-?\d+\.\d+")


@st.composite
def views(draw: st.DrawFn) -> AloneView:
    use = draw(st.none() | CORES)
    pod = PodView(
        uid="x",
        request=draw(CORES),
        limit=draw(st.none() | CORES),
        now=use,
        smooth=use,
        peak=use,
        stall=draw(st.none() | st.floats(0, 1)),
        settled=draw(st.booleans()),
    )
    return AloneView(cpus=float(draw(st.integers(0, 64))), pod=pod)


def worse(view: AloneView, more: float, waits: float) -> AloneView:
    """The same with an owner that uses more, asked for more and waits longer."""
    pod = view.pod
    use = None if pod.now is None else pod.now + more
    stall = min(1.0, (pod.stall or 0.0) + waits)
    more_of = PodView(
        uid=pod.uid, request=pod.request + more, limit=None if pod.limit is None else pod.limit + more,
        now=use, smooth=use, peak=use, stall=stall, settled=pod.settled,
    )  # fmt: skip
    return AloneView(cpus=view.cpus, pod=more_of)


@given(views(), CORES, st.floats(0, 1))
def test_an_offer_is_within_its_cpus_falls_with_what_the_owner_wants_and_its_sum_adds_up(
    view: AloneView, more: float, waits: float
) -> None:
    said = advise(view, Settings())
    assert 0 <= said.amount <= view.cpus
    assert advise(worse(view, more, waits), Settings()).amount <= said.amount + 1e-9
    numbers = [float(number) for number in NUMBER.findall(said.arithmetic)]
    if said.arithmetic.startswith("0.0, because"):
        assert numbers[1] <= 0.05
        return
    amount, cpus, used, ratio, reserve, *score = numbers
    left = cpus - used * ratio - reserve
    rough = 0.06 * max(ratio, 1.0) + 0.005 * used + 0.11  # of numbers rounded to what is printed
    assert math.isclose(amount, left * (score[0] if score else 1.0), abs_tol=rough + 0.005 * abs(left))


@given(
    st.lists(st.tuples(st.none() | st.floats(-1, 40, width=32), st.floats(0, 0.3)), min_size=1, max_size=12),
    st.integers(1, 14),
    st.booleans(),
)
def test_an_owner_keeps_all_its_cpus_and_guests_behind_it_leave_what_it_uses(
    reports: list[tuple[float | None, float]], asked: int, asks_much: bool
) -> None:
    pods = a_pod("x", DEDICATED, asked, (1,), ALONE), a_pod("s", cores=10 if asks_much else 2), a_pod("g", RECLAIMED)
    node, its, before = Node(*pods, lend_alone=True), frozenset(range(16, 32)), 0
    for use, stall in reports:
        node.report(1, x=use, s=1.0, g=1.0, stall=stall)
        cpus = parse_cpuset(node.knobs("pod/x").knobs.cpus or "")
        lent = node.cpus("reclaimed") & its
        assert cpus == its
        assert node.cpus("share").isdisjoint(its)
        assert len(lent) <= before + 1, "grew by more than a step"
        if use is not None and 0 <= use <= 32:
            assert len(lent) <= max(0.0, 16 - use)
        else:
            assert len(lent) <= 16 - asked, "nobody knows what it uses"
        if stall >= Settings().stall:
            assert not lent
        assert node.knobs("class/besteffort").knobs.mems == "0"
        before = len(lent)
