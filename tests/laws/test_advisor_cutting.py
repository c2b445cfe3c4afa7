"""Laws of sizing and cutting: on any machine, with any pods, whatever was cut before."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import example, given
from hypothesis import strategies as st

from neap.advisor.core.assign import NONE, Cut, Stake, admit, assign, assign_dedicated, check
from neap.advisor.core.layout import Layout
from neap.advisor.core.sizing import Rules, Sizes, Wish, normalise, size
from neap.common.cpuset import format_cpuset
from neap.common.model.topology import NodeTopology, NumaNode, Zone, ZoneKind

POOLS = ("batchlike", "share", "web")


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    """Any machine: NUMA nodes of different sizes, some without CPUs, SMT or not, CPUs offline, system CPUs or none."""
    threads = draw(st.sampled_from((1, 2)))
    cores = draw(st.lists(st.integers(0, 6), min_size=1, max_size=4))
    count = sum(cores) or 1
    numa_of = [index for index, size in enumerate(cores) for _ in range(size)] or [0]
    siblings = {
        core + thread * count: format_cpuset({core + t * count for t in range(threads)})
        for core in range(count)
        for thread in range(threads)
    }
    offline = draw(st.sets(st.sampled_from(sorted(siblings)), max_size=2))
    online = set(siblings) - offline or set(siblings)
    system = draw(st.sets(st.sampled_from(sorted(siblings)), max_size=min(2, len(online) - 1)))
    caches = [{cpu for cpu in online if (cpu % count) // 3 == group} for group in range(count // 3 + 1)]
    zones = tuple(Zone(kind=ZoneKind.L3, index=0, cpus=format_cpuset(cpus)) for cpus in caches if cpus)
    nodes = tuple(
        NumaNode(index=i, cpus=format_cpuset(cpu for cpu in online if numa_of[cpu % count] == i), memory=1 << 34)
        for i in range(len(cores))
    )
    machine = Zone(kind=ZoneKind.MACHINE, index=0, cpus=format_cpuset(online), children=zones)
    topology = NodeTopology(
        at=0,
        source="reporter",
        node="n",
        machine=machine,
        numa=nodes,
        siblings=siblings,
        system_cpus=format_cpuset(system),
    )
    return Layout.of(topology)


RULES = st.builds(
    Rules,
    unit=st.sampled_from((1, 2)),
    pool_minimum=st.integers(1, 2),
    reclaimed_minimum=st.integers(1, 4),
    step=st.integers(1, 6),
    dead_band=st.integers(0, 2),
)


@st.composite
def wishes(draw: st.DrawFn, held: dict[str, int] | None = None) -> dict[str, Wish]:
    found = {}
    for name in draw(st.sets(st.sampled_from(POOLS), max_size=3)):
        need = draw(st.integers(0, 30))
        had = held.get(name, 0) if held is not None else draw(st.integers(0, 30))
        found[name] = Wish(need, max(need, draw(st.integers(0, 30))), had, draw(st.booleans()))
    return found


def one_round(data: st.DataObject, layout: Layout, before: Cut, lent: int | None) -> tuple[Cut, Sizes, list[Stake]]:
    stakes = data.draw(
        st.lists(
            st.builds(Stake, st.sampled_from("abc"), st.integers(1, 6), st.sampled_from(((), (0,), (1, 9)))),
            unique_by=lambda s: s.uid,
        )
    )
    asked = data.draw(wishes({name: len(cpus) for name, cpus in before.shared.items()}))
    fit, out = admit(stakes, before, layout, keep_one=bool(asked))
    if out:
        asked = asked or {"share": Wish(1, 1, 0, rising=False)}
    dedicated = assign_dedicated(fit, before, layout)
    free = len(layout.lendable) - sum(map(len, dedicated.values()))
    sizes = size(asked, free, lent, data.draw(RULES), growing=data.draw(st.booleans()))
    return assign(dedicated, sizes, before, layout), sizes, fit


@given(st.data(), layouts())
def test_every_sequence_of_rounds_keeps_the_cut_lawful_and_gives_everybody_exactly_its_size(
    data: st.DataObject, layout: Layout
) -> None:
    before, lent = Cut(), None
    for _ in range(data.draw(st.integers(1, 4))):
        cut, sizes, fit = one_round(data, layout, before, lent)
        check(cut, layout)
        assert {uid: len(cpus) for uid, cpus in cut.dedicated.items()} == {stake.uid: stake.cpus for stake in fit}
        assert {name: len(cpus) for name, cpus in cut.shared.items()} == sizes.shared
        assert (len(cut.lent), len(cut.overlap)) == (sizes.reclaimed, sizes.overlap)
        before, lent = cut, sizes.reclaimed


@given(st.data(), layouts())
def test_a_cpu_moves_only_because_somebody_changed_its_size(data: st.DataObject, layout: Layout) -> None:
    first, sizes, _ = one_round(data, layout, Cut(), None)
    second, after, _ = one_round(data, layout, first, sizes.reclaimed)
    if sizes.together or after.together:
        return
    for uid, cpus in second.dedicated.items():
        assert cpus == first.dedicated.get(uid, cpus) or len(cpus) != len(first.dedicated[uid])
    taken = NONE.union(*second.dedicated.values())
    for name, cpus in second.shared.items():
        had = first.shared.get(name, NONE)
        assert len(cpus - had) == max(0, len(cpus) - len(had - taken)), "took more than it grew by"
        assert len(had - taken - cpus) == max(0, len(had - taken) - len(cpus)), "gave up more than it shrank by"
    if layout.threads == 1:
        had = first.lent - taken
        assert second.lent <= had or second.lent >= had, "guests were swapped from CPU to CPU"


@given(st.data(), layouts())
def test_what_one_pool_gives_another_takes_and_guests_stay(data: st.DataObject, layout: Layout) -> None:
    unit, cores = layout.threads, len(layout.cores)
    if cores < 3 or len(layout.lendable) != cores * unit:
        return
    web = data.draw(st.integers(1, cores - 2))
    share = data.draw(st.integers(1, cores - 1 - web))
    guests = data.draw(st.integers(1, cores - web - share))
    moved = data.draw(st.integers(0, share))
    before = assign({}, Sizes({"share": share * unit, "web": web * unit}, guests * unit, 0), Cut(), layout)
    after = assign(
        {}, Sizes({"share": (share - moved) * unit, "web": (web + moved) * unit}, guests * unit, 0), before, layout
    )
    assert after.lent == before.lent
    for cpus in (*after.shared.values(), after.lent):
        assert {cpu for cpu in cpus for cpu in layout.cores[layout.core_of[cpu]].cpus} == cpus, "half a core"


@given(st.data(), layouts())
def test_a_core_is_broken_only_for_an_odd_size(data: st.DataObject, layout: Layout) -> None:
    count = len(layout.lendable)
    if count < 6 or layout.threads * len(layout.cores) != count:
        return
    cut = Cut()
    for share in data.draw(st.lists(st.integers(1, count - 1), min_size=1, max_size=4)):
        cut = assign({}, Sizes({"share": share}, 1, 0), cut, layout)
        mine = cut.shared["share"]
        halves = [core for core in layout.cores if 0 < len(mine.intersection(core.cpus)) < len(core.cpus)]
        assert len(halves) <= share % 2


@given(st.data(), layouts())
def test_the_same_sizes_again_move_nothing(data: st.DataObject, layout: Layout) -> None:
    cut, sizes, fit = one_round(data, layout, Cut(), None)
    assert assign(assign_dedicated(fit, cut, layout), sizes, cut, layout) == cut


@given(st.data(), layouts())
def test_the_order_of_pods_and_pools_does_not_matter(data: st.DataObject, layout: Layout) -> None:
    stakes = [Stake(uid, data.draw(st.integers(1, 5))) for uid in "abcd"]
    asked = data.draw(wishes())
    rules = data.draw(RULES)

    def run(order: list[Stake], pools: list[str]) -> Cut:
        fit, _ = admit(order, Cut(), layout, keep_one=True)
        dedicated = assign_dedicated(fit, Cut(), layout)
        free = len(layout.lendable) - sum(map(len, dedicated.values()))
        return assign(
            dedicated, size({name: asked[name] for name in pools}, free, None, rules, growing=True), Cut(), layout
        )

    shuffled = data.draw(st.permutations(stakes)), data.draw(st.permutations(sorted(asked)))
    assert run(stakes, sorted(asked)) == run(*shuffled)


@given(wishes(), st.integers(0, 40), st.none() | st.integers(0, 40), RULES, st.booleans())
def test_sizes_use_up_what_is_free_and_guests_grow_in_steps(
    asked: dict[str, Wish], free: int, lent: int | None, rules: Rules, growing: bool
) -> None:
    sizes = size(asked, free, lent, rules, growing=growing)
    if not sizes.together:
        assert sum(sizes.shared.values()) + sizes.reclaimed <= free
    if lent is not None:
        assert sizes.reclaimed <= max(lent + rules.step * growing, rules.reclaimed_minimum)
    if not sizes.squeezed:
        assert all(sizes.shared[name] >= max(wish.need, rules.pool_minimum) for name, wish in asked.items())
    if sum(sizes.shared.values()) + sizes.reclaimed > 0:
        assert sizes.reclaimed + sizes.overlap > 0, "guests have nowhere to run"


@given(wishes(), st.integers(3, 40), RULES)
def test_guests_have_lost_everything_before_an_owner_gets_less_than_it_needs(
    asked: dict[str, Wish], free: int, rules: Rules
) -> None:
    sizes = size(asked, free, None, rules, growing=True)
    if any(sizes.shared[name] < wish.need for name, wish in asked.items()):
        assert sizes.reclaimed == 0


@given(st.integers(1, 40), RULES, st.data())
def test_a_rising_pool_never_shrinks(free: int, rules: Rules, data: st.DataObject) -> None:
    held = data.draw(st.integers(0, free))
    need = data.draw(st.integers(0, 40))
    wish = Wish(need, max(need, data.draw(st.integers(0, 40))), held, rising=True)
    sizes = size({"share": wish}, free, free - held, rules, growing=True)
    assert sizes.shared["share"] >= held
    calm = size({"share": replace(wish, rising=False)}, free, free - held, rules, growing=True)
    assert calm.shared["share"] >= held - max(rules.step, rules.reclaimed_minimum) or need > free, "gave back too much"


@given(wishes(), st.integers(0, 40), st.none() | st.integers(0, 40), RULES, st.booleans())
@example(asked={"share": Wish(1, 5, 5, rising=False)}, free=15, lent=10, rules=Rules(2, 1, 2, 2, 0), growing=True)
def test_a_pool_grows_only_for_what_it_needs_now_or_lacked_lately(
    asked: dict[str, Wish], free: int, lent: int | None, rules: Rules, growing: bool
) -> None:
    """Rounding up to whole cores is for the present need alone: nobody moves for the sake of an even number."""
    sizes = size(asked, free, lent, rules, growing=growing)
    for name, wish in asked.items():
        now = max(wish.need, rules.pool_minimum)
        if wish.held >= max(wish.lately, -(-now // rules.unit) * rules.unit) and not sizes.together:
            assert sizes.shared[name] <= wish.held


@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 50), min_size=1), st.integers(1, 60))
def test_normalising_shrinks_in_proportion_and_leaves_nobody_with_nothing(sizes: dict[str, int], total: int) -> None:
    shrunk = normalise(sizes, total)
    if len(sizes) > total:
        assert shrunk == dict.fromkeys(sizes, total)
        return
    assert min(shrunk.values()) >= 1
    if sum(sizes.values()) >= total:
        assert sum(shrunk.values()) == total
        exact = {name: value * total / sum(sizes.values()) for name, value in sizes.items()}
        assert all(shrunk[name] <= exact[name] + 1 for name in sizes)
