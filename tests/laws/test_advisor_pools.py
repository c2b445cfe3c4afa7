"""Laws of pools that are isolated, that lend nothing, or that guests share; and of who is isolated."""

from __future__ import annotations

from dataclasses import replace

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from neap.advisor.core.assign import Cut, assign, check
from neap.advisor.core.isolation import Part, Runner, Watch, Watches, isolate
from neap.advisor.core.isolation import Rules as Loudness
from neap.advisor.core.layout import Layout
from neap.advisor.core.sizing import Bounds, Rules, Sizes, Wish, give, size
from tests.laws.test_advisor_cutting import RULES, layouts, wishes

MODES = st.builds(
    lambda rules, lend, overlap: replace(rules, lend=lend, overlap=overlap), RULES, st.booleans(), st.booleans()
)
APART = st.dictionaries(
    st.sampled_from(("isolated-a", "isolated-b")),
    st.tuples(st.integers(1, 6), st.integers(0, 6)).map(lambda pair: Bounds(pair[0], pair[0] + pair[1])),
)


@given(wishes(), APART, st.integers(1, 40), st.none() | st.integers(0, 40), MODES, st.booleans())
def test_sizes_fit_whatever_is_isolated_lent_or_shared(
    asked: dict[str, Wish], apart: dict[str, Bounds], free: int, lent: int | None, rules: Rules, growing: bool
) -> None:
    sizes = size(asked, free, lent, rules, growing=growing, isolated=apart)
    assert sizes.shared.keys() == asked.keys() | apart.keys()
    if not sizes.together:
        assert sum(sizes.shared.values()) + sizes.reclaimed <= free
    if not sizes.squeezed:
        assert all(sizes.shared[name] >= max(wish.need, rules.pool_minimum) for name, wish in asked.items())
        assert all(sizes.shared[name] in bounds for name, bounds in apart.items())
        assert len({sizes.shared[name] == bounds.upper for name, bounds in apart.items() if len(set(bounds)) > 1}) <= 1
    if lent is not None and rules.lend:
        lending = sizes.reclaimed + sizes.overlap if rules.overlap else sizes.reclaimed
        assert lending <= max(lent + rules.step * growing, rules.reclaimed_minimum)
    if not rules.lend:
        assert sizes.reclaimed <= rules.reclaimed_minimum
    if sizes.over is not None:
        assert sum(sizes.over.values()) == sizes.overlap
        assert all(0 <= count <= sizes.shared[name] for name, count in sizes.over.items())
    assert sizes == size(dict(reversed(asked.items())), free, lent, rules, growing=growing, isolated=apart)


@given(st.data(), layouts(), wishes(), APART, MODES)
def test_every_mode_cuts_lawfully_and_the_same_sizes_again_move_nothing(
    data: st.DataObject, layout: Layout, asked: dict[str, Wish], apart: dict[str, Bounds], rules: Rules
) -> None:
    before, lent = Cut(), None
    free = len(layout.lendable)
    for _ in range(data.draw(st.integers(1, 3))):
        sizes: Sizes = size(data.draw(wishes()) or asked, free, lent, rules, growing=True, isolated=apart)
        cut = assign({}, sizes, before, layout)
        check(cut, layout)
        assert {name: len(cpus) for name, cpus in cut.shared.items()} == sizes.shared
        assert (len(cut.lent), len(cut.overlap)) == (sizes.reclaimed, sizes.overlap)
        assert assign({}, sizes, cut, layout) == cut
        before, lent = cut, len(cut.reclaimed)


@given(st.dictionaries(st.sampled_from("abcd"), st.integers(0, 9), min_size=1), st.data())
def test_who_gives_is_no_smaller_than_the_others_afterwards_but_for_one(
    sizes: dict[str, int], data: st.DataObject
) -> None:
    count = data.draw(st.integers(0, sum(sizes.values())))
    given_ = give(sizes, count)
    left = {name: sizes[name] - given_[name] for name in sizes}
    assert sum(given_.values()) == count
    assert min(left.values()) >= 0
    assert all(left[name] + 1 >= max(left.values()) for name in sizes if given_[name])


# -- isolation -------------------------------------------------------------------------------------------------------

PARTS = st.tuples(st.none() | st.floats(0, 40), st.integers(0, 8).map(float)).map(lambda pair: Part(*pair))
RUNNERS = st.dictionaries(
    st.sampled_from("abcdefgh"),
    st.tuples(st.sampled_from(("share", "web")), st.lists(PARTS, max_size=2).map(tuple)),
).map(lambda found: [Runner(uid, pool, parts) for uid, (pool, parts) in sorted(found.items())])
LOUDNESS = st.builds(
    Loudness,
    ratio=st.floats(1, 3),
    surplus=st.floats(0, 4),
    lock_in=st.integers(1, 3),
    lock_out=st.integers(0, 3),
    most_room=st.floats(0, 1),
    most_pods=st.floats(0, 1),
    spared=st.sampled_from((frozenset(), frozenset({"web"}))),
)


@given(st.lists(RUNNERS, min_size=1, max_size=5), LOUDNESS, st.data())
def test_a_pool_keeps_somebody_and_the_isolated_stay_within_their_bounds(
    rounds: list[list[Runner]], rules: Loudness, data: st.DataObject
) -> None:
    watches: Watches = {}
    for runners in rounds:
        after = isolate(data.draw(st.permutations(runners)), watches, rules)
        assert after == isolate(runners, watches, rules), "the order of owners mattered"
        for pool in {runner.pool for runner in runners}:
            members = [runner for runner in runners if runner.pool == pool]
            apart = [runner for runner in members if after.get(runner.uid, Watch()).isolated]
            assert len(apart) < len(members)
            assert len(apart) <= rules.most_pods * len(members)
            assert sum(one.room for one in apart) <= rules.most_room * sum(one.room for one in members) + 1e-6
            assert not apart or pool not in rules.spared
        watches = msgspec.json.decode(msgspec.json.encode(after), type=Watches)
        assert watches == after


@given(RUNNERS, LOUDNESS)
def test_an_unknown_load_changes_nothing_for_whom_there_is_a_place(runners: list[Runner], rules: Loudness) -> None:
    before = isolate(runners, {}, rules)
    unknown = [Runner(one.uid, one.pool, tuple(Part(None, part.room) for part in one.parts)) for one in runners]
    again = isolate(unknown, before, rules)
    assert all(again[uid] == before[uid] for uid in again)
    assert {uid for uid, watch in again.items() if watch.isolated} == {u for u, w in before.items() if w.isolated}
