"""What holds of every set of policy documents, whoever wrote them, and of the settings that come out."""

from __future__ import annotations

import math
from typing import Annotated, Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from neap.common.contract.catalogue import NODES as NODE_OBJECTS
from neap.common.contract.catalogue import POLICY
from neap.common.errors import InputError
from neap.common.model.policy import (
    MOST_EDITIONS,
    TIERS,
    Edition,
    Effective,
    PolicyDocument,
    Target,
    Tier,
    Why,
    flaw,
    share,
)
from neap.common.model.qos import QosClass
from neap.common.model.window import WEEK, Window
from neap.common.model.workload import Workload
from neap.common.runtime.machine import Arrived, Synced
from neap.common.runtime.tuning import MOST_SERVICES, Tunable, Tuning
from neap.common.units import DAY


class Room(msgspec.Struct, frozen=True, kw_only=True):
    low: Annotated[int, Meta(ge=0, le=9)] = 2
    high: Annotated[int, Meta(ge=0, le=9)] = 7
    table: dict[str, float] = {}
    node: str = ""


def check(settings: Room) -> None:
    """What no bound of one key says."""
    if settings.low > settings.high:
        raise InputError(f"low {settings.low} is above high {settings.high}")


TUNABLE = Tunable("probe", Room, per_service=frozenset({"low", "table.a"}), check=check)
NODES, POOLS, SERVICES = ("n1", "n2"), ("", "p1", "p2"), ("", "shop/cart", "shop/pay")
SELECTORS = {Tier.CLUSTER: ("", "x"), Tier.POOL: POOLS, Tier.NODE: ("", *NODES), Tier.SERVICE: SERVICES}
NOW = 1_000_000.0
times = st.sampled_from((0.0, NOW - 1, NOW, NOW + 1, NOW + 5))
windows = st.builds(
    Window,
    start=st.sampled_from(("00:00", "08:30", "22:00")),
    end=st.sampled_from(("06:00", "09:00", "24:00", "22:00")),
    days=st.sampled_from(((), ("mon",), ("sat", "sun"), WEEK)),
    zone=st.sampled_from(("+00:00", "-07:30", "+14:00")),
)
patches = st.dictionaries(
    st.sampled_from(("low", "high", "table.a", "table.b", "table", "node", "nothing")),
    st.one_of(st.integers(-1, 10), st.just("many"), st.just({"a": 1.5}), st.none()),
    max_size=3,
)


@st.composite
def editions(draw: st.DrawFn, version: int) -> Edition:
    tier = draw(st.sampled_from(TIERS))
    return Edition(
        version=version,
        at=float(draw(st.integers(0, 3))),
        tier=tier,
        selector=draw(st.sampled_from(SELECTORS[tier])),
        patch=draw(patches),
        canary=draw(st.sampled_from((0.0, 0.1, 0.5, 1.0, 1.0))),
        schedule=draw(st.one_of(st.none(), st.none(), windows)),
        begins=draw(times),
        expires=draw(st.one_of(st.none(), times)),
    )


@st.composite
def documents(draw: st.DrawFn, name: str) -> PolicyDocument:
    count = draw(st.integers(1, 3))
    kept = tuple(draw(editions(version)) for version in range(count, 0, -1))
    return PolicyDocument(at=0.0, source="test", room="probe", name=name, editions=kept, last=count)


@st.composite
def worlds(draw: st.DrawFn) -> list[PolicyDocument]:
    names = draw(st.lists(st.sampled_from(("a", "b", "c", "d")), unique=True, max_size=4))
    return [draw(documents(name)) for name in names]


targets = st.builds(Target, node=st.sampled_from(NODES), pool=st.sampled_from(POOLS), service=st.sampled_from(SERVICES))
moments = st.sampled_from((0.0, NOW - 1, NOW, NOW + 3, NOW + 3 * DAY))


def resolved(world: list[PolicyDocument], target: Target, at: float = NOW) -> Effective:
    return TUNABLE.resolve(world, target, at, Room())


@given(worlds(), targets, moments, st.randoms(use_true_random=False))
def test_the_order_in_which_documents_are_heard_does_not_matter(
    world: list[PolicyDocument], target: Target, at: float, random: Any
) -> None:
    mixed = list(world)
    random.shuffle(mixed)
    assert resolved(mixed, target, at) == resolved(world, target, at)


@given(worlds(), targets, moments)
def test_what_comes_out_always_holds_and_of_each_key_the_narrowest_tier_won(
    world: list[PolicyDocument], target: Target, at: float
) -> None:
    found = resolved(world, target, at)
    TUNABLE.fit(found.values, Room())
    rank = {tier.value: place for place, tier in enumerate(TIERS)}
    for key, provenance in found.provenance.items():
        claims = (provenance.won, *provenance.beat)
        ranks = [rank[claim.scope.partition("=")[0]] for claim in claims]
        assert ranks == sorted(ranks, reverse=True)
        assert found.values[key] == provenance.won.value
        assert len({claim.document for claim in claims}) == len(claims)


@given(worlds(), targets, moments)
def test_a_document_without_effect_changes_nothing_for_the_others(
    world: list[PolicyDocument], target: Target, at: float
) -> None:
    found = resolved(world, target, at)
    heard = {claim.document for each in found.provenance.values() for claim in (each.won, *each.beat)}
    rest = resolved([document for document in world if document.name in heard], target, at)
    assert rest.values == found.values
    assert rest.provenance == found.provenance


@given(worlds(), targets, moments, patches)
def test_an_edition_that_does_not_hold_leaves_the_one_before_it_in_force(
    world: list[PolicyDocument], target: Target, at: float, patch: dict[str, Any]
) -> None:
    before = resolved(world, target, at)
    for wrong in ({"nothing": 1}, {"low": 99}, {"node": "n2"}, {"low": 9, "high": 1}, {}):
        bad = [document.set(Edition(version=1, at=9.0, patch=wrong and {**patch, **wrong})) for document in world]
        after = resolved(bad, target, at)
        assert after.values == before.values
        assert after.provenance == before.provenance
        if world:
            assert {document.name for document in bad} <= {absent.document for absent in after.refused}


@given(worlds(), targets, moments, editions(version=1))
def test_rolling_back_what_was_set_is_as_before(
    world: list[PolicyDocument], target: Target, at: float, edition: Edition
) -> None:
    before = resolved(world, target, at)
    back = [document.set(edition).rolled_back(at) for document in world if len(document.editions) < MOST_EDITIONS]
    assert resolved([document for document in back if document is not None], target, at) == before
    for document in world:
        assert document.set(edition).now.version > document.last
        assert document.set(edition).last == document.last + 1


@given(worlds(), targets, moments, st.floats(0, 1, exclude_max=True))
def test_nothing_changes_before_the_moment_that_is_named(
    world: list[PolicyDocument], target: Target, at: float, part: float
) -> None:
    found = resolved(world, target, at)
    assert found.until > at
    later = at + part * (min(found.until, at + 30 * DAY) - at)
    if later < found.until:
        assert resolved(world, target, later).values == found.values


@given(st.text("abc-", min_size=1, max_size=8), st.floats(0, 1), st.floats(0, 1))
def test_a_smaller_canary_lies_inside_a_larger_one(name: str, one: float, other: float) -> None:
    small, large = sorted((one, other))
    nodes = [f"node-{number}" for number in range(100)]
    reached = [{node for node in nodes if share(name, node) < canary} for canary in (small, large, 1.0)]
    assert reached[0] <= reached[1] <= reached[2] == set(nodes)


def test_a_canary_reaches_about_its_share_and_other_nodes_for_another_document() -> None:
    nodes = [f"node-{number}" for number in range(5000)]
    first, second = ({node for node in nodes if share(name, node) < 0.1} for name in ("first", "second"))
    for reached in (first, second):
        assert 400 < len(reached) < 600
    assert len(first & second) < 150


@given(windows, st.floats(-1e9, 4e9))
def test_a_window_opens_and_shuts_only_when_it_says(window: Window, at: float) -> None:
    if window.flaw:
        return
    change = window.changes_after(at)
    assert at < change <= at + 8 * DAY
    middle = at + (math.nextafter(change, at) - at) / 2
    assert window.holds(middle) == window.holds(at)


@given(editions(version=1))
def test_an_edition_with_a_flaw_never_has_an_effect(edition: Edition) -> None:
    document = PolicyDocument(at=0.0, source="test", room="probe", name="a", editions=(edition,))
    for node in NODES:
        found = resolved([document], Target(node=node))
        if flaw(edition):
            assert not found.values
            assert [absent.why for absent in found.absent] == [Why.INVALID]


def test_services_that_came_and_went_are_not_remembered_for_ever() -> None:
    tuning = Tuning(TUNABLE, Room(), "n1")
    document = PolicyDocument(at=0.0, source="test", room="probe", name="a", editions=(Edition(
        version=1, at=0.0, tier=Tier.SERVICE, selector="shop/cart", patch={"low": 5},
    ),))  # fmt: skip
    for event in (Arrived(NOW, document), Synced(NOW, POLICY), Synced(NOW, NODE_OBJECTS)):
        tuning.hear(event)
    cart = Workload(uid="u", namespace="shop", name="cart", qos=QosClass.RECLAIMED, containers=())
    for number in range(3 * MOST_SERVICES):
        assert tuning.of(msgspec.structs.replace(cart, name=f"job-{number}")).low == 2
        assert tuning.of(cart).low == 5
    assert tuning.claims("low", cart)
    assert len(tuning._services) <= MOST_SERVICES
    assert len(tuning._found) <= MOST_SERVICES + 1
