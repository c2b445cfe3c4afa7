"""Laws of the enforcer as a whole: restore is exact, unchanged is silent, repetition is harmless, a tick is cheap."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from neap.common.cpuset import format_cpuset, parse_cpuset
from neap.common.model.advice import CgroupAdvice, Knobs, NodeAdvice
from neap.common.runtime.machine import Arrived, Done, Stopping, Tick
from neap.enforcer.core.instruction import Apply, Observe
from tests.unit.test_enforcer_machine import (
    MOUNT,
    POD_FILES,
    UIDS,
    WHOLE,
    World,
    a_host,
    advice,
    as_kernel,
    effective,
    for_pod,
    has_tasks,
)

cpu_lists = st.sets(st.integers(0, 7), min_size=1).map(format_cpuset)
knob_values = st.fixed_dictionaries(
    {},
    optional={
        "cpus": st.one_of(cpu_lists, st.sampled_from(["", "x", "9-4"])),
        "mems": st.sampled_from(["0", "1", "0-1"]),
        "cpu_weight": st.integers(-1, 10_001),
        "cpu_max": st.one_of(st.floats(-1, 8), st.sampled_from([float("inf"), float("nan")])),
        "cpu_idle": st.booleans(),
        "memory_high": st.sampled_from([-1, 0, 1 << 20, 12_345_678]),
        "memory_max": st.sampled_from([-1, -9, 1 << 30]),
        "oom_score_adj": st.integers(-1001, 1001),
    },
).map(lambda values: Knobs(**values))
targets = st.sampled_from(
    [
        "class/besteffort",
        "class/burstable",
        "class/guaranteed",
        "pod/g-1",
        "pod/g-2",
        "pod/cart",
        "pod/db",
        "pod/gone",
        "pod/..",
        "?",
    ]
)
cgroups = st.builds(
    CgroupAdvice, target=targets, pool=st.sampled_from(["reclaim", "share", "dedicated-1"]), knobs=knob_values
)
advices = st.lists(cgroups, max_size=6).map(tuple)
DRIFT = {"cpu.weight": "33", "cpuset.cpus": "1", "memory.high": "max"}
acts = st.lists(st.one_of(advices, st.sampled_from(["tick", "kill", "drift"])), min_size=1, max_size=8)


ROOT = f"{MOUNT}/kubepods"
FOLDERS = [ROOT, f"{ROOT}/burstable", f"{ROOT}/besteffort"]
FOLDERS += [f"{ROOT}/{kind + '/' if kind else ''}pod{uid}" for kind, uids in UIDS.items() for uid in uids]


def snapshot(world: World) -> dict[str, str]:
    found = {f"{folder}/{name}": world.host.read(f"{folder}/{name}") for folder in FOLDERS for name in POD_FILES}
    return found | {f"/proc/{pid}": world.host.read(f"/proc/{pid}/oom_score_adj").strip() for pid in (11, 12)}


def a_world() -> World:
    world = World(grace=5.0)
    world.host.put(f"{MOUNT}/kubepods/besteffort/podg-1/c1/cgroup.procs", "11\n12\n")
    world.host.put("/proc/11/oom_score_adj", "1000\n")
    world.host.put("/proc/12/oom_score_adj", "-17\n")
    world.host.put(f"{MOUNT}/kubepods/burstable/podcart/cpuset.cpus", "2-5\n")
    return world


def play(world: World, told: list[Any]) -> float:
    at = 1.0
    for act in told:
        at += 1.0
        if act == "tick":
            world.tick(at)
        elif act == "kill":
            world.start()
        elif act == "drift":
            for name, text in DRIFT.items():
                if world.text(f"besteffort/podg-1/{name}") != POD_FILES[name].strip():  # only what we wrote can drift
                    world.host.put(f"{MOUNT}/kubepods/besteffort/podg-1/{name}", text + "\n")
        else:
            world.hear(NodeAdvice(at=at, source="a", node="n1", seq=int(at), expires=at + 100, pools=(), cgroups=act))
    return at


@given(acts, st.booleans())
def test_the_originals_come_back_byte_for_byte_whatever_happened(told: list[Any], lapse: bool) -> None:
    """Where another hand wrote over ours, its text may have become the original.

    A set that was empty names all there is where the kernel does not let anybody empty it; no task feels that.
    """
    world = a_world()
    before, sets = snapshot(world), effective(world.host, FOLDERS)
    drifted = {f"{MOUNT}/kubepods/besteffort/podg-1/{name}": text + "\n" for name, text in DRIFT.items()}
    at = play(world, told)
    if lapse:
        world.live(Arrived(at, advice(1, at=at + 1, expires=at))).hear(advice(1, at=at + 2, expires=at))
        for later in range(1, 200):
            world.tick(at + 6 + later)
    else:
        world.live(Stopping(at + 1))
    after = snapshot(world)
    for path in after:
        folder, _, file = path.rpartition("/")
        is_full = before[path] == "\n" and after[path] == WHOLE.get(file) and has_tasks(world.host, folder)
        if after[path] != before[path] and not is_full:
            assert "drift" in told
            assert after[path] == drifted[path]
    assert "drift" in told or effective(world.host, FOLDERS) == sets
    assert world.journal.load() == {}


@given(acts)
def test_the_second_look_at_the_same_advice_writes_nothing(told: list[Any]) -> None:
    world = a_world()
    at = play(world, [*told, "tick"])
    writes = world.writes
    for later in range(1, 4):
        world.tick(at + later)
    assert world.writes == writes


@given(acts)
def test_every_event_twice_is_the_same_as_once(told: list[Any]) -> None:
    once, twice = a_world(), a_world()
    play(once, told)
    seen = twice._one

    def doubled(event: Any) -> None:
        seen(event)
        if not isinstance(event, Tick | Done):
            seen(event)

    twice._one = doubled  # type: ignore[method-assign]
    play(twice, told)
    assert snapshot(once) == snapshot(twice)
    assert once.writes == twice.writes
    assert [entry.id for entry in once.trail] == [entry.id for entry in twice.trail]


@given(advices, advices)
def test_between_any_two_writes_no_populated_cgroup_falls_out_of_its_parents_cpus(first: Any, second: Any) -> None:
    """As the kernel computes it: an own set disjoint from the parent's would silently become the parent's."""
    world = a_world()

    def check(path: str, text: str) -> str:
        shown = {
            aim.cgroup: world.host.read(f"{aim.cgroup}/cpuset.cpus")
            for aim in world.machine._works._aims
            if aim.file == "cpuset.cpus"
        }
        shown[path.rpartition("/")[0]] = text
        for folder, below in shown.items():
            for above, beside in shown.items():
                if folder.startswith(above + "/") and below.strip() and beside.strip():
                    assert parse_cpuset(below) & parse_cpuset(beside), f"{folder} {below}, {above} {beside}"
        return text.strip() + "\n"

    world.host.put(f"{MOUNT}/kubepods/burstable/podcart/cpuset.cpus", "\n")
    world.host.on_write("cpuset.cpus", check)
    for seq, cgroups_told in enumerate((first, second), start=2):
        known = tuple(c for c in cgroups_told if "/" in c.target)
        world.hear(NodeAdvice(at=seq, source="a", node="n1", seq=seq, expires=1e9, pools=(), cgroups=known))


partitions = st.lists(st.sampled_from(["db", "web", "burstable", "besteffort"]), min_size=8, max_size=8).filter(
    lambda who: len(set(who)) == 4
)


def divided(who: list[str]) -> tuple[CgroupAdvice, ...]:
    """CPUs for everybody; a class and its pods share."""
    cpus = {name: format_cpuset(cpu for cpu, holder in enumerate(who) if holder == name) for name in who}
    told = [CgroupAdvice(target="pod/db", pool="dedicated", knobs=Knobs(cpus=cpus["db"]))]
    told += [CgroupAdvice(target="pod/web", pool="share", knobs=Knobs(cpus=cpus["web"]))]
    for kind in ("burstable", "besteffort"):
        named = [f"class/{kind}", *(f"pod/{uid}" for uid in UIDS[kind])]
        told += [CgroupAdvice(target=target, pool="share", knobs=Knobs(cpus=cpus[kind])) for target in named]
    return tuple(told)


@given(st.lists(partitions, min_size=2, max_size=4))
def test_between_any_two_writes_a_dedicated_pods_cpus_are_nobody_elses(turns: list[list[str]]) -> None:
    """Room for everybody: a pod that holds its only CPU and wants another's only one finds somewhere to wait."""
    world = World(as_kernel(a_host()))

    def check(path: str, text: str) -> str:
        world.host.put(path, text.strip() + "\n")
        sets = effective(world.host, FOLDERS)
        mine = f"{ROOT}/poddb/cpuset.cpus"
        others = [at for at in sets if at.endswith("cpus") and at not in (mine, f"{ROOT}/cpuset.cpus")]
        assert not any(sets[mine] & sets[other] for other in others), f"after {text} for {path}"
        return text.strip() + "\n"

    for seq, who in enumerate(turns, start=1):
        world.hear(NodeAdvice(at=seq, source="a", node="n1", seq=seq, expires=1e9, pools=(), cgroups=divided(who)))
        assert world.text("poddb/cpuset.cpus") == divided(who)[0].knobs.cpus
        world.host.on_write("cpuset.cpus", check)


def test_a_look_that_finds_nothing_new_makes_no_plan_and_asks_for_nothing() -> None:
    """Looks are made every period, so only the reading may cost anything (make bench tells how much)."""
    world = World(as_kernel(a_host()))
    world.hear(advice(1, for_pod("g-1", cpus="4-7", cpu_weight=2, memory_high=1 << 30))).tick(1.5).tick(2.0)
    plan, applies = world.machine._works.plan, len(world.applies)
    for second in range(3, 13):
        (observe,) = world.machine.handle(Tick(float(second), "reconcile"))
        assert isinstance(observe, Observe)
        try:
            world.hands.observe(observe).send(None)
        except StopIteration as read:
            answers = world.machine.handle(Done(float(second), observe, read.value))
        assert not any(isinstance(item, Apply | Observe) for item in answers)
        assert world.machine._works.plan is plan
    assert len(world.applies) == applies
