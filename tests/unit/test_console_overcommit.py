"""`neap overcommit`: story S9, the table, and what is refused."""

from __future__ import annotations

import msgspec
import pytest

from neap.common.errors import InputError
from neap.common.model.node import NodeObject
from neap.common.model.placement import Placement
from neap.common.model.qos import QosClass
from neap.common.model.ratios import KindRatio, NodeRatios
from neap.common.model.resource import CPU, MEMORY
from neap.common.units import GIB
from neap.console.core.overcommitted import NodeSale, accepted, refusal, table
from neap.console.shell.overcommitting import ratios_in
from tests.unit.scheduler_world import a_node, an_owner


def n9(*cores: float, dedicated: float = 0, ratios: NodeRatios | None = None) -> NodeSale:
    pods = [an_owner("abcdefghijklmnopqrst"[number], cores=each) for number, each in enumerate(cores)]
    if dedicated:
        pods.append(an_owner("own", cores=dedicated, qos=QosClass.DEDICATED))
    held = {pod.uid: Placement(workload=pod, charged=pod.requests) for pod in pods}
    return NodeSale("n9", topology=a_node("n9", cores=32, gib=64), ratios=ratios, held=held)


def told(**more: object) -> NodeRatios:
    one = KindRatio(
        resource=CPU, ratio=1.4, set=1.5, foreseen=1.42, peak=18_200, requested=47_000, original=32_000,
        arithmetic="1.40 = min(1.50 set, 1.42 foreseen)",
    )  # fmt: skip
    return msgspec.structs.replace(NodeRatios(at=0.0, source="planner", node="n9", kinds=(one,)), **more)


def test_s9_a_ratio_below_what_is_asked_is_refused_with_the_pods_in_the_way() -> None:
    node = n9(2.2, 1, 43.8)
    assert refusal(node, {CPU: 1.4}) == "n9: Σrequests 47.0 > 44.8 = 32 × 1.4; pods: shop/c"
    assert refusal(n9(40, 1.5, 1.5, 4), {CPU: 1.4}) == "n9: Σrequests 47.0 > 44.8 = 32 × 1.4; pods: shop/a"
    assert refusal(n9(*[23.5] * 2), {CPU: 1.4}) == "n9: Σrequests 47.0 > 44.8 = 32 × 1.4; pods: shop/a"
    assert refusal(node, {CPU: 1.5}) == ""


def test_owned_cpus_are_told_apart_and_kinds_have_their_units() -> None:
    node = n9(20, 20, dedicated=4)
    assert refusal(node, {CPU: 1.2}) == "n9: Σrequests 44.0 > 37.6 = (32 − 4) × 1.2 + 4; pods: shop/a"
    node.held["m"] = Placement(workload=an_owner("m", gib=70), charged={MEMORY: 70 * GIB})
    assert refusal(node, {MEMORY: 1.0}).endswith("> 64.0 GiB = 64 × 1; pods: shop/m")


def test_many_pods_are_counted_not_listed() -> None:
    node = n9(*[4.0] * 20)
    assert refusal(node, {CPU: 1.0}) == (
        "n9: Σrequests 80.0 > 32.0 = 32 × 1; pods: "
        + ", ".join(f"shop/{name}" for name in "abcdefghij")
        + " and 2 more"
    )


def test_what_is_accepted_comes_with_the_predicted_peak() -> None:
    [line] = accepted(n9(47, ratios=told()), {CPU: 1.5})
    assert line == "n9: cpu up to 48.0 cores = 32 × 1.5; predicted peak 18.2, 1.42 foreseen"
    node = n9(47)
    node.object = NodeObject(at=0.0, source="gateway", node="n9", ratios={CPU: 1.2})
    [line] = accepted(node, {CPU: 1.5})
    assert "its peak is not known yet" in line
    assert line.endswith("its own object says 1.2, which is lower and counts")


def test_the_table_has_a_line_per_kind_and_says_what_lowered_it() -> None:
    lines = table([n9(47, ratios=told(lowered="batch/etl slows shop/cart down"))]).splitlines()
    assert lines[0].split() == ["NODE", "KIND", "SET", "FORESEEN", "IN", "FORCE", "PEAK", "ASKED", "HAS"]
    assert lines[1].split()[:8] == ["n9", "cpu", "1.50", "1.42", "1.40", "18.2", "47.0", "32.0"]
    assert lines[2].endswith("lowered: batch/etl slows shop/cart down")
    assert table([n9(1)]).startswith("no node sells more than it has")


def test_what_only_the_nodes_object_says_is_shown_too() -> None:
    node = n9(1)
    node.object = NodeObject(at=0.0, source="gateway", node="n9", ratios={CPU: 2.0, MEMORY: 1.0})
    assert table([node]).splitlines()[1].split()[:5] == ["n9", "cpu", "2.00", "unknown", "2.00"]


@pytest.mark.parametrize("pair", ["cpu", "cpu=", "cpu=x", "cpu=0.9", "cpu=nan", "cpu=1001", "gpu=2", "=2"])
def test_what_is_no_ratio_is_refused_by_its_words(pair: str) -> None:
    with pytest.raises(InputError, match="write cpu=1.5 or memory=1.2"):
        ratios_in([pair])
