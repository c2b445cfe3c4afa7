"""Short reports: what is left out has not moved, what is lost costs nothing, and no message is too long."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from neap.common.contract.catalogue import NODE_USAGE
from neap.common.model.usage import ContainerUsage, DeviceUsage, NodeUsage, NumaUsage, Stall, completed
from neap.common.units import KIB
from neap.reporter.core.telling import EXACT, LARGEST, Telling, fitted, threshold
from neap.reporter.settings import Settings

shares = st.floats(0, 1)
rates = st.one_of(st.none(), st.floats(0, 1e9))
stalls = st.one_of(st.none(), st.builds(Stall, some10=shares, full10=shares, some=st.one_of(st.none(), shares)))
measured = st.fixed_dictionaries(
    {
        "cpu": st.one_of(st.none(), st.floats(0, 64)),
        "memory": st.one_of(st.none(), st.integers(0, 1 << 40)),
        "cpu_stall": stalls,
        "cpuset": st.sampled_from([None, "0-3", "0-4"]),
        "io_read": rates,
        "refaults": rates,
        "oom_kills": st.one_of(st.none(), st.integers(0, 3)),
    }
)
small_steps = st.floats(-0.02, 0.02)


def a_container(name: str, fields: dict[str, Any]) -> ContainerUsage:
    return ContainerUsage(uid=name, container=name, cgroup=f"kubepods/burstable/pod{name}/c", **fields)


@st.composite
def lives(draw: st.DrawFn) -> list[tuple[ContainerUsage, ...]]:
    """What a node's containers show, report after report: they come, stay as they were, move a little or much, and go."""
    names = draw(st.lists(st.sampled_from("abcde"), unique=True))
    now, life = {name: a_container(name, draw(measured)) for name in names}, []
    for _ in range(draw(st.integers(1, 12))):
        if draw(st.integers(0, 9)) == 0:
            name = draw(st.sampled_from("abcde"))
            now = (
                {k: v for k, v in now.items() if k != name}
                if name in now
                else now | {name: a_container(name, draw(measured))}
            )
        for name, known in now.items():
            match draw(st.integers(0, 3)):
                case 0:
                    now[name] = a_container(name, draw(measured))
                case 1 if known.cpu is not None:
                    now[name] = replace(known, cpu=max(0.0, known.cpu * (1 + draw(small_steps))))
        life.append(tuple(now.values()))
    return life


def report(seq: int, containers: tuple[ContainerUsage, ...], **fields: Any) -> NodeUsage:
    return NodeUsage(at=float(seq), source="reporter", node="n1", seq=seq, period=1.0, containers=containers, **fields)


def near(settings: Settings, now: Any, then: Any, least: float = 0.0) -> bool:
    """Written apart from the code: no field differs by more than its threshold."""
    if isinstance(now, msgspec.Struct):
        names = now.__struct_fields__
        return type(now) is type(then) and all(
            near(settings, getattr(now, name), getattr(then, name), threshold(settings, name)) for name in names
        )
    if now is None or then is None or isinstance(now, str):
        return bool(now == then)
    return abs(now - then) <= max(least, settings.moved_ratio * abs(then) if least else 0)


limits = st.builds(Settings, full_every=st.integers(1, 6), skip_at_most=st.sampled_from([0, 0, 2]))


@given(lives(), limits, st.data())
def test_a_short_report_on_top_of_its_full_one_is_the_report_within_the_thresholds(
    life: list[tuple[ContainerUsage, ...]], settings: Settings, data: st.DataObject
) -> None:
    telling, full = Telling(settings), None
    sent: list[tuple[int, NodeUsage | None]] = []
    for seq, containers in enumerate(life, start=1):
        usage = report(seq, containers)
        message = telling.tell(usage)
        sent.append((seq, message))
        if message is None:
            continue
        heard = NODE_USAGE.decode(NODE_USAGE.encode(message))
        if heard.since and data.draw(st.booleans(), label="lost"):
            continue
        full = full if heard.since else heard
        whole = completed(heard, full)
        assert whole is not None, "only short reports were lost"
        assert [one.cgroup for one in whole.containers] == [one.cgroup for one in containers]
        assert all(near(settings, *pair) for pair in zip(containers, whole.containers, strict=True))
    complete = [seq for seq, message in sent if message is not None and not message.since]
    assert complete[0] == 1
    assert all(later - earlier <= settings.full_every + settings.skip_at_most for earlier, later in pairwise(complete))
    assert sum(message is None for _, message in sent) <= len(sent) * settings.skip_at_most / (
        settings.skip_at_most + 1
    )


@given(lives())
def test_other_containers_are_always_a_full_report(life: list[tuple[ContainerUsage, ...]]) -> None:
    telling, before = Telling(Settings(full_every=1000)), None
    for seq, containers in enumerate(life, start=1):
        message = telling.tell(report(seq, containers))
        assert message is not None
        here = [one.cgroup for one in containers]
        assert here == before or not message.since
        before = here


@given(lives(), st.integers(1, 5))
def test_a_report_is_skipped_only_while_nothing_moves_and_not_for_long(
    life: list[tuple[ContainerUsage, ...]], most: int
) -> None:
    settings = Settings(skip_at_most=most)
    telling, last, quiet = Telling(settings), None, 0
    for seq, containers in enumerate(life, start=1):
        usage = report(
            seq, containers, cpu=1.0, links=(DeviceUsage(name="eth0", read=5.0),), numa=(NumaUsage(index=0),)
        )
        message = telling.tell(usage)
        quiet = quiet + 1 if message is None else 0
        assert quiet <= most
        if message is None:
            assert last is not None
            assert all(near(settings, *pair) for pair in zip(containers, last.containers, strict=True))
        else:
            last = usage


@given(st.integers(0, 900), st.integers(1, 1500), st.integers(0, 3))
def test_no_report_is_too_long_and_what_is_left_out_is_said_best_effort_first(
    count: int, length: int, kind: int
) -> None:
    classes = ("burstable", "besteffort")
    containers = tuple(
        ContainerUsage(uid="u", container="c", cgroup=f"kubepods/{classes[i % (kind + 1) > 0]}/pod{i}/{'x' * length}")
        for i in range(count)
    )
    usage = fitted(report(1, containers))
    assert len(NODE_USAGE.encode(usage)) <= LARGEST == 256 * KIB
    kept = {one.cgroup for one in usage.containers}
    left_out = [one.cgroup for one in containers if one.cgroup not in kept]
    assert list(usage.containers) == [one for one in containers if one.cgroup in kept], "in their order"
    assert bool(left_out) == any(name.startswith(f"{len(left_out)} containers: ") for name in usage.unknown)
    if any("burstable" in cgroup for cgroup in left_out):
        assert not [cgroup for cgroup in kept if "besteffort" in cgroup]


def test_every_field_has_a_threshold_of_its_own_kind() -> None:
    settings = Settings()
    assert {threshold(settings, name) for name in EXACT} == {0.0}
    assert [threshold(settings, name) for name in ("cpu", "io_read", "refaults", "power", "memory_free")] == [
        settings.moved_cores,
        settings.moved_bytes,
        settings.moved_pages,
        settings.moved_watts,
        settings.moved_bytes,
    ]
