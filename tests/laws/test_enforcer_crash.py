"""Killed after any prefix of its acts, started again, stopped: the node is as it was before the enforcer came."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from neap.common.contract.catalogue import ADVICE
from neap.common.host.memory import Folder
from neap.common.host.port import Refused
from neap.common.model.advice import CgroupAdvice, Knobs, NodeAdvice, ResctrlAdvice, WriteStatus
from neap.common.runtime.machine import Stopping, Synced
from neap.enforcer.core.instruction import Originals
from neap.enforcer.shell.journal import MemoryJournal
from tests.unit.test_enforcer_machine import (
    MOUNT,
    POD_FILES,
    UIDS,
    WHOLE,
    World,
    a_host,
    as_kernel,
    effective,
    has_tasks,
)
from tests.unit.test_enforcer_resctrl import ResctrlHost, run

FILES = POD_FILES | {
    "cgroup.subtree_control": "cpuset cpu io memory pids\n",
    "cpu.max.burst": "0\n",
    "memory.min": "0\n",
    "memory.low": "0\n",
    "memory.swap.max": "max\n",
    "memory.current": "5000000\n",
    "memory.pressure": "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00\n",
    "memory.stat": "workingset_refault_file 0\npgsteal 0\n",
    "memory.reclaim": "",
    "io.weight": "default 100\n8:16 700\n",
    "io.max": "8:0 rbps=1000000 wbps=max riops=max wiops=max\n",
}


class Killed(BaseException):
    """kill -9."""


class Life:
    """How many acts on the host and on the journal are left."""

    def __init__(self) -> None:
        self.left = -1

    def act(self) -> None:
        if self.left == 0:
            raise Killed
        self.left -= 1


class MortalHost(ResctrlHost):
    life: Life

    def write(self, path: str, text: str) -> None:
        self.life.act()
        super().write(path, text)

    def remove_folder(self, path: str) -> None:
        self.life.act()
        super().remove_folder(path)

    def make_folder(self, path: str) -> None:
        if not self.exists(path):
            self.life.act()
        super().make_folder(path)


class MortalJournal(MemoryJournal):
    def __init__(self, life: Life) -> None:
        super().__init__()
        self.life = life

    def save(self, originals: Originals) -> None:
        self.life.act()
        super().save(originals)


def a_kernel(host: MortalHost) -> MortalHost:
    """What the kernel refuses, and what it makes of io.max."""

    def io_max(path: str, text: str) -> str:
        device, _, rest = text.strip().partition(" ")
        lines = {line.split()[0]: dict(p.split("=") for p in line.split()[1:]) for line in host.read(path).splitlines()}
        line = lines.setdefault(device, dict.fromkeys(("rbps", "wbps", "riops", "wiops"), "max"))
        line |= dict(part.split("=") for part in rest.split())
        shown = {name: limits for name, limits in lines.items() if set(limits.values()) != {"max"}}
        return "".join(f"{name} {' '.join(f'{k}={v}' for k, v in shown[name].items())}\n" for name in sorted(shown))

    def burst(path: str, text: str) -> str:
        quota = host.read(path.removesuffix(".burst")).split()[0]
        if quota != "max" and int(text) > int(quota):
            raise Refused(f"write {path}: EINVAL")
        return text.strip() + "\n"

    def quota(path: str, text: str) -> str:
        if text.split(maxsplit=1)[0] != "max" and int(text.split(maxsplit=1)[0]) < int(host.read(f"{path}.burst")):
            raise Refused(f"write {path}: EINVAL")
        return text.strip() + "\n"

    def weight(path: str, text: str) -> str:
        rest = host.read(path).splitlines()[1:]
        return "\n".join((text.strip(), *rest)) + "\n"

    as_kernel(host)
    for name in ("memory.min", "memory.low", "memory.swap.max"):
        host.on_write(name, lambda _, text: text.strip() + "\n")
    for name, hook in (("io.max", io_max), ("cpu.max.burst", burst), ("/cpu.max", quota), ("io.weight", weight)):
        host.on_write(name, hook)
    host.on_write("memory.reclaim", lambda *_: "")
    return host


def a_world() -> World:
    life = Life()
    host = MortalHost()
    host.life = life
    host._own = a_host()._own
    a_kernel(host)
    host.put(f"{MOUNT}/io.cost.qos", "8:0 enable=1 ctrl=auto\n")
    for folder in folders():
        for name, text in FILES.items():
            host.put(f"{folder}/{name}", text)
    host.mount("gold")
    containers = {"besteffort/podg-1/c1": (11, 12), "besteffort/podg-2/c1": (21,), "poddb/c1": (31,)}
    for container, pids in containers.items():
        run(host, container, *pids)
        host.put(f"{MOUNT}/kubepods/{container}/cgroup.procs", "".join(f"{pid}\n" for pid in pids))
        for pid in pids:
            host.put(f"/proc/{pid}/oom_score_adj", f"{pid}\n")
    host.write("/sys/fs/resctrl/gold/tasks", "12")
    host.on_write("oom_score_adj", lambda _, text: text.strip() + "\n")
    return World(host, MortalJournal(life), grace=5.0)


def folders() -> list[str]:
    root = f"{MOUNT}/kubepods"
    pods = [f"{root}/{kind + '/' if kind else ''}pod{uid}" for kind, uids in UIDS.items() for uid in uids]
    return [root, f"{root}/burstable", f"{root}/besteffort", *pods]


def everything(world: World) -> dict[str, Any]:
    """Every file of the host, and who is in which resctrl group (in any order)."""
    found: dict[str, Any] = {}

    def walk(at: str, folder: Folder) -> None:
        for name, entry in folder.items():
            path = f"{at}/{name}"
            if isinstance(entry, dict):
                walk(path, entry)
            elif name == "tasks":
                found[path] = sorted(world.host.read(path).split())
            elif name != "memory.reclaim":
                found[path] = world.host.read(path)

    walk("", world.host._own)
    return found


def not_as_before(world: World, before: dict[str, Any]) -> dict[str, Any]:
    """What differs, but for sets that were empty and that the kernel does not let anybody empty: they name all."""
    after = everything(world)
    different = {path: after.get(path) for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    for path in list(different):
        folder, _, file = path.rpartition("/")
        if before.get(path) == "\n" and after.get(path) == WHOLE.get(file) and has_tasks(world.host, folder):
            del different[path]
    return different


knobs = st.fixed_dictionaries(
    {},
    optional={
        "cpus": st.sampled_from(["0", "0-3", "4-7", "2-5", "7"]),
        "mems": st.sampled_from(["0", "0-1"]),
        "cpu_weight": st.sampled_from([2, 500]),
        "cpu_max": st.sampled_from([0.5, 2.0, -1.0]),
        "cpu_burst": st.sampled_from([0.0, 0.5, 1.5]),
        "cpu_idle": st.booleans(),
        "memory_min": st.sampled_from([0, 1 << 20]),
        "memory_low": st.sampled_from([0, 1 << 21]),
        "memory_high": st.sampled_from([-1, 1 << 22]),
        "memory_down_to": st.sampled_from([1 << 20, 1 << 30]),
        "swap_max": st.sampled_from([-1, 0, 1 << 20]),
        "io_weight": st.sampled_from([1, 50]),
        "io_max": st.sampled_from(
            [{"8:0": {"wbps": 500}}, {"8:0": {"rbps": 7}, "8:32": {"riops": 9}}, {"8:0": {"rbps": -1}}]
        ),
    },
)
of_pods = st.fixed_dictionaries(
    {}, optional={"oom_score_adj": st.sampled_from([-5, 900]), "resctrl": st.sampled_from(["", "gold", "guests"])}
)


def cgroup(target: str, *parts: dict[str, Any]) -> CgroupAdvice:
    values = {name: value for part in parts for name, value in part.items()}
    return CgroupAdvice(target=target, pool="dedicated" if target == "pod/db" else "reclaim", knobs=Knobs(**values))


cgroups = st.one_of(
    st.builds(cgroup, st.sampled_from(["class/besteffort", "class/burstable"]), knobs),
    st.builds(cgroup, st.sampled_from(["pod/g-1", "pod/g-2", "pod/db", "pod/late"]), knobs, of_pods),
)
groups = st.dictionaries(
    st.sampled_from(["gold", "guests", ""]), st.sampled_from([{"MB": "0=50"}, {"L3": "0=f;1=f", "MB": "1=30"}])
)
advices = st.lists(st.tuples(st.lists(cgroups, max_size=4).map(tuple), groups), min_size=1, max_size=3)


def told(seq: int, wanted: tuple[CgroupAdvice, ...], limits: dict[str, dict[str, str]]) -> NodeAdvice:
    resctrl = tuple(ResctrlAdvice(group=name, schemata=lines) for name, lines in limits.items())
    return NodeAdvice(
        at=float(seq), source="a", node="n1", seq=seq, expires=1e9, pools=(), cgroups=wanted, resctrl=resctrl
    )


@given(advices, st.integers(0, 60), st.booleans(), st.booleans())
def test_killed_after_any_act_then_started_and_stopped_the_node_is_as_before(
    plays: list[Any], acts: int, again: bool, lapse: bool
) -> None:
    world = a_world()
    before, sets = everything(world), effective(world.host, folders())
    life: Life = world.host.life  # type: ignore[attr-defined]
    life.left = acts
    seq = itertools.count(1)
    try:
        for wanted, limits in plays:
            number = next(seq)
            world.hear(told(number, wanted, limits)).tick(number + 0.5)
    except Killed:
        world._inbox.clear()
    life.left = -1
    world.start()
    if again:
        world.hear(told(10, *plays[-1])).tick(11.0)
    if lapse:
        world.live(Synced(12.0, ADVICE)) if not again else world.hear(told(12, (), {}))
        for second in range(13, 100):
            world.tick(float(second))
    world.live(Stopping(101.0))
    assert not_as_before(world, before) == {}
    assert effective(world.host, folders()) == sets
    assert world.said[-1].restored or not world.said
    assert world.journal.load() == {}


@given(advices)
def test_what_starts_after_our_writes_carries_nothing_of_ours_in_the_end(plays: list[Any]) -> None:
    """A pod made below a class we wrote, and processes that were forked by processes we wrote."""
    world = a_world()
    for seq, (wanted, limits) in enumerate(plays, start=1):
        world.hear(told(seq, wanted, limits))
        if seq == 1:
            for name, text in FILES.items():
                world.host.put(f"{MOUNT}/kubepods/besteffort/podlate/{name}", text)
            world.host.put(f"{MOUNT}/kubepods/besteffort/podg-1/c1/cgroup.procs", "11\n12\n13\n")
            world.host.put("/proc/13/oom_score_adj", world.host.read("/proc/11/oom_score_adj"))
            run(world.host, "besteffort/podg-1/c1", 11, 12)  # type: ignore[arg-type]
        world.tick(seq + 0.5)
    world.live(Stopping(100.0))
    shown = {name: world.host.read(f"{MOUNT}/kubepods/besteffort/podlate/{name}") for name in FILES}
    assert shown == FILES | {"memory.reclaim": shown["memory.reclaim"]}
    assert world.host.read("/proc/13/oom_score_adj") == "11\n"


@given(advices, st.integers(1, 5))
def test_what_is_true_already_is_never_written_again_whatever_it_is(plays: list[Any], ticks: int) -> None:
    world = a_world()
    for seq, (wanted, limits) in enumerate(plays, start=1):
        world.hear(told(seq, wanted, limits))
    for second in range(20):
        world.tick(100.0 + second)
    settled = len(world.applies)
    for second in range(ticks):
        world.tick(300.0 + second)
    late = [write.site for apply in world.applies[settled:] for write in apply.writes]
    refused = {write.knob for said in world.said for write in said.writes if write.status is WriteStatus.REFUSED}
    assert {site.file for site in late} <= {"memory.reclaim", *refused}
