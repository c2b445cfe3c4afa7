"""The enforcer on a host in memory that behaves as a kernel does where it matters."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import pytest

from neap.common.contract.catalogue import ADVICE
from neap.common.cpuset import parse_cpuset
from neap.common.errors import PortError, Unavailable
from neap.common.host.memory import MemoryHost
from neap.common.host.port import Refused
from neap.common.host.watch import MemoryWatch
from neap.common.model.advice import Applied, CgroupAdvice, Knobs, KnobWrite, NodeAdvice, WriteStatus
from neap.common.model.enforcement import NodeEnforcement
from neap.common.model.trail import ObjectRef, TrailEntry
from neap.common.runtime.machine import (
    Arrived,
    Count,
    Decide,
    Done,
    Event,
    Failed,
    Gone,
    Publish,
    Put,
    Stopping,
    Synced,
    Tick,
)
from neap.common.runtime.plugins import load
from neap.enforcer.core.instruction import Apply, Observe, Originals, Probe, WatchFolders
from neap.enforcer.core.knob import Knob, Site, by_file
from neap.enforcer.core.machine import EnforcerMachine
from neap.enforcer.settings import Settings
from neap.enforcer.shell.hands import Hands
from neap.enforcer.shell.journal import FileJournal, MemoryJournal, RestoreJournal
from neap.enforcer.shell.probe import Feeler

KNOBS = by_file(load("neap.enforcer.plugins", Knob))
MOUNT = "/sys/fs/cgroup"
POD_FILES = {
    "cpuset.cpus": "\n",
    "cpuset.mems": "\n",
    "cpu.weight": "79\n",
    "cpu.idle": "0\n",
    "cpu.max": "max 100000\n",
    "memory.high": "max\n",
    "memory.max": "max\n",
}
UIDS = {"": ("db", "web"), "burstable": ("cart",), "besteffort": ("g-1", "g-2")}


WHOLE = {"cpuset.cpus": "0-7\n", "cpuset.mems": "0-1\n"}


def has_tasks(host: MemoryHost, folder: str) -> bool:
    """Whether a process is in a cgroup or below."""
    below = [f"{folder}/{name}" for name in host.list(folder) if "." not in name or name.endswith(".scope")]
    own = host.read_all([f"{folder}/cgroup.procs"])[0]
    return bool((own or "").strip()) or any(has_tasks(host, path) for path in below)


def effective(host: MemoryHost, folders: Iterable[str]) -> dict[str, frozenset[int]]:
    """What the tasks of each cgroup may use: own ∩ the parent's, or the parent's where that is nothing."""
    found: dict[str, frozenset[int]] = {}
    for file, whole in WHOLE.items():
        for folder in sorted(folders):
            up = found.get(f"{folder.rpartition('/')[0]}/{file}", parse_cpuset(whole))
            found[f"{folder}/{file}"] = (parse_cpuset(host.read(f"{folder}/{file}")) & up) or up
    return found


def as_kernel(host: MemoryHost) -> MemoryHost:
    """Texts come back with a newline; an idle cgroup has no weight, and a fresh one afterwards.

    A set that is not empty does not become so while a task is in the cgroup or below (kernel/cgroup/cpuset.c).
    """

    def a_set(path: str, text: str) -> str:
        if not text.strip() and host.read(path).strip() and has_tasks(host, path.rpartition("/")[0]):
            raise Refused(f"write {path}: ENOSPC")
        return text.strip() + "\n"

    def idle(path: str, text: str) -> str:
        if text.strip() == host.read(path).strip():  # kernel/sched/fair.c, sched_group_set_idle: nothing to do
            return text.strip() + "\n"
        host.put(path.replace("cpu.idle", "cpu.weight"), "0\n" if text.strip() == "1" else "100\n")
        return text.strip() + "\n"

    def weight(path: str, text: str) -> str:
        if host.read(path.replace("cpu.weight", "cpu.idle")).strip() == "1":
            raise Refused(f"write {path}: EINVAL")
        return text.strip() + "\n"

    for name in POD_FILES:
        host.on_write(name, lambda _, text: text.strip() + "\n")
    for name in WHOLE:
        host.on_write(name, a_set)
    host.on_write("cpu.idle", idle)
    host.on_write("cpu.weight", weight)
    return host


def a_host(*, systemd: bool = False, cpus: str = "0-7") -> MemoryHost:
    host = as_kernel(MemoryHost())
    host.put(f"{MOUNT}/cpuset.cpus.effective", cpus + "\n")
    host.put(f"{MOUNT}/cpuset.mems.effective", "0-1\n")
    folders = [root := f"{MOUNT}/kubepods" + ".slice" * systemd]
    for kind, uids in UIDS.items():
        folder = f"{root}/kubepods-{kind}.slice" if systemd else f"{root}/{kind}"
        folder = folder if kind else root
        folders += [folder]
        for uid in uids:
            named = "-".join(filter(None, ("kubepods", kind, f"pod{uid.replace('-', '_')}.slice")))
            pod = f"{folder}/{named}" if systemd else f"{folder}/pod{uid}"
            folders += [pod, f"{pod}/{'cri-containerd-' * systemd}c1{'.scope' * systemd}"]
    for folder in folders:
        for name, text in POD_FILES.items():
            host.put(f"{folder}/{name}", text)
    return host


def advice(seq: int = 1, *cgroups: CgroupAdvice, at: float | None = None, expires: float = 1e9) -> NodeAdvice:
    return NodeAdvice(
        at=float(seq) if at is None else at,
        source="advisor",
        node="n1",
        seq=seq,
        expires=expires,
        pools=(),
        cgroups=cgroups,
    )


def for_pod(uid: str, pool: str = "reclaim", **knobs: Any) -> CgroupAdvice:
    about = ObjectRef(namespace="shop", name=uid, uid=uid)
    return CgroupAdvice(target=f"pod/{uid}", pool=pool, knobs=Knobs(**knobs), about=about)


def for_class(name: str, **knobs: Any) -> CgroupAdvice:
    return CgroupAdvice(target=f"class/{name}", pool="reclaim", knobs=Knobs(**knobs))


class World:
    """One enforcer, its host, and everything it said; effects are executed as the driver does."""

    def __init__(self, host: MemoryHost | None = None, journal: RestoreJournal | None = None, **settings: Any) -> None:
        self.host = host or a_host()
        self.journal: RestoreJournal = journal or MemoryJournal()
        self.settings = Settings(node="n1", **settings)
        self.said: list[Applied] = []
        self.trail: list[TrailEntry] = []
        self.enforcement: list[NodeEnforcement] = []
        self.watch = MemoryWatch()
        self.counted: dict[str, float] = {}
        self.applies: list[Apply] = []
        self._inbox: list[Event] = []
        self.start()

    def start(self) -> None:
        """A fresh process on the same host: what kill -9 leaves."""
        self.machine = EnforcerMachine(self.settings, KNOBS, self.journal.load())
        self.hands = Hands(self.host, self.journal, KNOBS, self.settings.cgroup_roots, self.watch)
        self.feeler = Feeler(self.host, KNOBS, self.settings.cgroup_roots)

    def live(self, *events: Event) -> World:
        for event in events:
            self._one(event)
            while self._inbox:
                self._one(self._inbox.pop(0))
        return self

    def hear(self, told: NodeAdvice, at: float | None = None) -> World:
        now = told.at if at is None else at
        return self.live(Arrived(now, told), Synced(now, ADVICE))

    def tick(self, at: float) -> World:
        return self.live(Tick(at, "reconcile"))

    def _one(self, event: Event) -> None:
        for instruction in self.machine.handle(event):
            match instruction:
                case Observe():
                    self._answer(event.at, instruction, self.hands.observe(instruction))
                case Apply():
                    self.applies.append(instruction)
                    self._answer(event.at, instruction, self.hands.apply(instruction))
                case Probe():
                    self._answer(event.at, instruction, self.feeler.probe(instruction))
                case WatchFolders():
                    self._answer(event.at, instruction, self.hands.watch(instruction))
                case Put(value=NodeEnforcement() as enforcement):
                    msgspec.json.encode(enforcement)
                    self.enforcement.append(enforcement)
                case Publish(message=Applied() as applied):
                    msgspec.json.encode(applied)
                    self.said.append(applied)
                case Decide(entry=entry):
                    self.trail.append(entry)
                case Count(metric=metric, by=by):
                    self.counted[metric] = self.counted.get(metric, 0) + by
        self.machine.validate()

    def _answer(self, at: float, instruction: Any, effect: Any) -> None:
        try:
            effect.send(None)
        except StopIteration as done:
            self._inbox.append(Done(at, instruction, done.value))
        except PortError as error:
            self._inbox.append(Failed(at, instruction, str(error), may_retry=False))

    def text(self, path: str) -> str:
        return self.host.read(f"{MOUNT}/kubepods/{path}").strip()

    @property
    def last(self) -> Sequence[KnobWrite]:
        return self.said[-1].writes

    @property
    def writes(self) -> int:
        return sum(len(apply.writes) for apply in self.applies)


GUEST = "besteffort/podg-1"


def test_advice_becomes_true_at_once_and_is_told_with_the_old_and_new_text() -> None:
    world = World().hear(advice(7, for_pod("g-1", cpus="4-7", cpu_weight=2, cpu_max=1.5, memory_high=1 << 30)))
    assert world.text(f"{GUEST}/cpuset.cpus") == "4-7"
    assert world.text(f"{GUEST}/cpu.weight") == "2"
    assert world.text(f"{GUEST}/cpu.max") == "150000 100000"
    assert world.text(f"{GUEST}/memory.high") == str(1 << 30)
    told = {write.knob: write for write in world.last}
    assert told["cpu.weight"].before == "79"
    assert told["cpu.weight"].cgroup == "kubepods/besteffort/podg-1"
    assert told["cpu.weight"].why == "advice 7"
    assert world.said[-1].advice_seq == 7


@pytest.mark.parametrize("systemd", [False, True])
def test_both_drivers_of_the_kubelet_are_understood(systemd: bool) -> None:
    host = a_host(systemd=systemd)
    World(host).hear(
        advice(1, for_pod("g-1", cpu_weight=3), for_pod("db", cpu_weight=4), for_class("besteffort", cpu_weight=5))
    )
    root = f"{MOUNT}/kubepods" + ".slice" * systemd
    kind = "kubepods-besteffort.slice" if systemd else "besteffort"
    guest = "kubepods-besteffort-podg_1.slice" if systemd else "podg-1"
    owner = "kubepods-poddb.slice" if systemd else "poddb"
    assert host.read(f"{root}/{kind}/{guest}/cpu.weight") == "3\n"
    assert host.read(f"{root}/{owner}/cpu.weight") == "4\n"
    assert host.read(f"{root}/{kind}/cpu.weight") == "5\n"


def test_unchanged_advice_makes_no_write_and_says_so() -> None:
    world = World().hear(advice(1, for_pod("g-1", cpus="4-7", cpu_max=math.inf)))
    before = world.writes
    world.hear(advice(2, for_pod("g-1", cpus="4-7", cpu_max=math.inf))).tick(3.0).tick(4.0)
    assert world.writes == before
    assert world.said[-1].advice_seq == 2
    assert world.last == ()


def test_nothing_is_written_from_replayed_history() -> None:
    world = World().live(Arrived(1.0, advice(1, for_pod("g-1", cpu_weight=2))), Tick(2.0, "reconcile"))
    assert world.writes == 0
    world.live(Synced(2.0, ADVICE))
    assert world.text(f"{GUEST}/cpu.weight") == "2"


def test_drift_is_repaired_within_one_period_counted_and_told() -> None:
    world = World().hear(advice(1, for_pod("g-1", cpu_weight=2)))
    world.host.write(f"{MOUNT}/kubepods/{GUEST}/cpu.weight", "500")
    world.tick(2.0)
    assert world.text(f"{GUEST}/cpu.weight") == "2"
    assert [write.why for write in world.last] == ["drift"]
    assert world.counted["neap_enforcer_drift_total"] == 1


def test_a_pod_that_starts_late_is_caught_by_the_next_tick_between_two_rounds() -> None:
    world = World()
    world.settings = msgspec.structs.replace(world.settings, reconcile_every=100)
    world.start()
    world.hear(advice(1, for_pod("late", cpu_weight=2)))
    for name, text in POD_FILES.items():
        world.host.put(f"{MOUNT}/kubepods/besteffort/podlate/{name}", text)
    world.tick(2.0)
    assert world.text("besteffort/podlate/cpu.weight") == "2"


def test_a_knob_left_out_stays_and_a_cgroup_left_out_goes_back() -> None:
    world = World().hear(advice(1, for_pod("g-1", cpu_weight=2, cpus="4-7"), for_pod("g-2", cpu_weight=3)))
    world.hear(advice(2, for_pod("g-1", cpus="4-7")))
    assert world.text(f"{GUEST}/cpu.weight") == "2"
    assert world.text("besteffort/podg-2/cpu.weight") == "79"
    assert world.last[0].why == "no longer advised"


def test_a_set_that_the_kernel_does_not_let_anybody_empty_names_all_there_is_and_everything_else_goes_back() -> None:
    world = World()
    world.host.put(f"{MOUNT}/kubepods/{GUEST}/c1/cgroup.procs", "11\n")
    world.hear(
        advice(1, for_class("besteffort", cpus="4-7", mems="1"), for_pod("g-1", cpus="4-5", mems="1", cpu_weight=2))
    )
    world.start()
    world.live(Stopping(2.0))
    for folder in (GUEST, "besteffort"):
        assert (world.text(f"{folder}/cpuset.cpus"), world.text(f"{folder}/cpuset.mems")) == ("0-7", "0-1")
    assert world.text(f"{GUEST}/cpu.weight") == "79"
    assert world.journal.load() == {}
    assert world.said[-1].restored
    last = {(write.cgroup.rpartition("/")[2], write.knob): write for write in world.last}
    assert {write.status for write in world.last} == {WriteStatus.WRITTEN}
    assert last["podg-1", "cpuset.mems"].after == "0-1"
    assert "takes no empty set while tasks run" in last["podg-1", "cpuset.mems"].why


def test_a_fallback_that_is_refused_as_well_is_owed_until_it_is_not() -> None:
    world = World().hear(advice(1, for_pod("g-1", cpus="4-5"), for_pod("g-2", cpus="4-5")))
    taken = world.host._hooks["cpuset.cpus"]

    def refuse(path: str, text: str) -> str:
        raise Refused(f"write {path}: EBUSY")

    world.host.on_write("cpuset.cpus", refuse)
    world.hear(advice(2))
    assert "EBUSY" in world.last[0].why
    assert len(world.journal.load()) == 2
    world.host.on_write("cpuset.cpus", taken)
    world.live(Stopping(3.0))
    assert world.text(f"{GUEST}/cpuset.cpus") == ""
    assert world.journal.load() == {}


def test_a_weight_thrown_away_by_our_idle_comes_back_with_the_end_of_idle() -> None:
    world = World().hear(advice(1, for_pod("g-1", cpu_idle=True))).hear(advice(2, for_pod("g-1", cpu_idle=False)))
    assert world.text(f"{GUEST}/cpu.weight") == "79"


def test_idle_throws_the_weight_away_and_restoring_brings_it_back() -> None:
    world = World().hear(advice(1, for_pod("g-1", cpu_idle=True, cpu_weight=2)))
    assert (world.text(f"{GUEST}/cpu.idle"), world.text(f"{GUEST}/cpu.weight")) == ("1", "0")
    world.tick(2.0).tick(3.0)
    assert world.counted.get("neap_enforcer_drift_total", 0) == 0
    world.live(Stopping(4.0))
    assert (world.text(f"{GUEST}/cpu.idle"), world.text(f"{GUEST}/cpu.weight")) == ("0", "79")


def test_stopping_gives_the_node_back_and_says_so() -> None:
    world = World().hear(advice(1, for_class("besteffort", cpus="0-3"), for_pod("g-1", cpus="0-1", memory_max=1 << 28)))
    world.live(Stopping(2.0))
    assert world.text(f"{GUEST}/cpuset.cpus") == ""
    assert world.text("besteffort/cpuset.cpus") == ""
    assert world.text(f"{GUEST}/memory.max") == "max"
    assert world.said[-1].restored
    assert world.journal.load() == {}
    assert not world.tick(3.0).machine.handle(Arrived(3.0, advice(2, for_pod("g-1", cpu_weight=2))))


class Deaf(MemoryHost):
    """A host whose directories cannot be listed any more."""

    deaf = False

    def list_all(self, paths: Sequence[str]) -> list[list[str] | None]:
        if self.deaf:
            raise Unavailable("list: nobody answers")
        return super().list_all(paths)


def test_what_cannot_be_looked_at_is_given_back_all_the_same() -> None:
    host = Deaf()
    host._own = a_host()._own
    as_kernel(host)
    world = World(host).hear(advice(1, for_class("besteffort", cpus="0-3"), for_pod("g-1", cpus="0-1", cpu_weight=2)))
    host.deaf = True
    world.live(Stopping(2.0))
    assert [world.text(f"{GUEST}/{name}") for name in ("cpuset.cpus", "cpu.weight")] == ["", "79"]
    assert world.text("besteffort/cpuset.cpus") == ""
    assert world.said[-1].restored
    assert world.journal.load() == {}


def test_lapsed_advice_gives_the_node_back_after_the_grace() -> None:
    world = World(grace=5.0).hear(advice(1, for_pod("g-1", cpu_weight=2), expires=10.0))
    world.tick(14.0)
    assert world.text(f"{GUEST}/cpu.weight") == "2"
    world.tick(15.5)
    assert world.text(f"{GUEST}/cpu.weight") == "79"
    assert world.said[-1].restored
    assert world.last[0].why == "advice lapsed"
    world.hear(advice(2, for_pod("g-1", cpu_weight=2), at=16.0))
    assert world.text(f"{GUEST}/cpu.weight") == "2"
    assert not world.said[-1].restored


def test_deleted_advice_is_lapsed_advice() -> None:
    world = World(grace=5.0).hear(advice(1, for_pod("g-1", cpu_weight=2)))
    world.live(Gone(2.0, ADVICE, "n1")).tick(6.9)
    assert world.text(f"{GUEST}/cpu.weight") == "2"
    world.tick(7.1)
    assert world.text(f"{GUEST}/cpu.weight") == "79"


def test_advice_that_had_lapsed_before_the_start_is_never_applied() -> None:
    world = World(grace=5.0).hear(advice(1, for_pod("g-1", cpu_weight=2), expires=10.0), at=100.0)
    world.tick(101.0)
    assert world.writes == 0
    assert world.said[-1].restored


def test_a_killed_enforcer_restores_what_it_had_changed_before(tmp_path: Any) -> None:
    world = World(journal=FileJournal(str(tmp_path), "n1", boot="b"), grace=5.0).hear(
        advice(1, for_pod("g-1", cpu_weight=2))
    )
    world.journal = FileJournal(str(tmp_path), "n1", boot="b")
    world.start()
    world.live(Synced(20.0, ADVICE)).tick(26.0)
    assert world.text(f"{GUEST}/cpu.weight") == "79"
    assert FileJournal(str(tmp_path), "n1", boot="b").load() == {}


def test_a_journal_of_another_boot_is_void_and_a_broken_one_is_set_aside(tmp_path: Any) -> None:
    FileJournal(str(tmp_path), "n1", boot="b").save({Site("/c", "cpu.weight"): "1"})
    assert FileJournal(str(tmp_path), "n1", boot="other").load() == {}
    (tmp_path / "n1.restore.json").write_text("{not json")
    assert FileJournal(str(tmp_path), "n1", boot="b").load() == {}
    assert (tmp_path / "n1.restore.unreadable").read_text() == "{not json"


def test_a_journal_entry_that_is_no_knob_of_ours_is_never_written() -> None:
    foreign = {Site("/etc", "passwd"): "x", Site(f"{MOUNT}/kubepods/../../etc", "cpu.max"): "x"}
    machine = EnforcerMachine(Settings(node="n1"), KNOBS, foreign)
    counts = machine.handle(Synced(1.0, ADVICE))
    assert counts[0] == Count("neap_enforcer_journal_refused_total", 2)
    assert machine.handle(Stopping(2.0))[0].message.restored  # type: ignore[attr-defined]


class FullDisk(MemoryJournal):
    def save(self, originals: Originals) -> None:
        raise PortError("restore journal /j: No space left on device")


def test_without_a_journal_nothing_is_written_and_the_reason_is_told() -> None:
    world = World(journal=FullDisk()).hear(advice(1, for_pod("g-1", cpu_weight=2)))
    assert world.text(f"{GUEST}/cpu.weight") == "79"
    assert world.last[0].status is WriteStatus.REFUSED
    assert "No space left" in world.last[0].why


@pytest.mark.parametrize(
    ("knobs", "file"),
    [
        ({"cpu_weight": 0}, "cpu.weight"),
        ({"cpu_weight": -5}, "cpu.weight"),
        ({"cpu_max": math.nan}, "cpu.max"),
        ({"cpu_max": -2.0}, "cpu.max"),
        ({"cpu_max": 0.0}, "cpu.max"),
        ({"cpus": ""}, "cpuset.cpus"),
        ({"cpus": "3-1"}, "cpuset.cpus"),
        ({"cpus": "all of them"}, "cpuset.cpus"),
        ({"mems": "9999999999"}, "cpuset.mems"),
        ({"memory_max": 0}, "memory.max"),
        ({"memory_high": -7}, "memory.high"),
        ({"oom_score_adj": 1001}, "oom_score_adj"),
    ],
)
def test_odd_values_are_refused_one_by_one_and_the_rest_is_applied(knobs: dict[str, Any], file: str) -> None:
    other = {"cpu_idle": True} if file == "cpu.weight" else {"cpu_weight": 3}
    world = World().hear(advice(1, for_pod("g-1", **knobs, **other)))
    refused = [write for write in world.last if write.status is WriteStatus.REFUSED]
    assert [(write.cgroup, write.knob) for write in refused] == [("pod/g-1", file)]
    assert refused[0].why
    assert world.counted["neap_enforcer_advice_refused_total"] == 1
    assert [write.knob for write in world.last if write.status is WriteStatus.WRITTEN] == [
        "cpu.idle" if "cpu_idle" in other else "cpu.weight"
    ]


@pytest.mark.parametrize(
    "target", ["pod/../../etc", "pod/a b", "pod/", "class/gold", "host", "pod/x/y", "pod/" + "x" * 500]
)
def test_a_target_that_points_elsewhere_is_refused_and_counted(target: str) -> None:
    world = World().hear(advice(1, CgroupAdvice(target=target, pool="p", knobs=Knobs(cpu_weight=1))))
    assert world.writes == 0
    assert world.last[0].status is WriteStatus.REFUSED
    assert world.counted["neap_enforcer_advice_refused_total"] == 1


def test_a_set_outside_its_parent_is_refused_by_name() -> None:
    world = World().hear(
        advice(1, for_class("besteffort", cpus="0-3"), for_pod("g-1", cpus="6-7"), for_pod("g-2", cpus="0-1"))
    )
    assert world.text("besteffort/podg-2/cpuset.cpus") == "0-1"
    refused = [write for write in world.last if write.status is WriteStatus.REFUSED]
    assert refused[0].cgroup == f"kubepods/{GUEST}"
    assert "0-3" in refused[0].why


def test_what_the_kernel_lacks_is_reported_once_per_knob_and_everything_else_works() -> None:
    world = World()
    for uid in ("g-1", "g-2"):
        world.host.remove(f"{MOUNT}/kubepods/besteffort/pod{uid}/memory.high")
    world.hear(advice(1, *(for_pod(uid, memory_high=1 << 30, cpu_weight=2) for uid in ("g-1", "g-2")))).tick(2.0).tick(
        3.0
    )
    told = [write for applied in world.said for write in applied.writes if write.status is WriteStatus.UNSUPPORTED]
    assert [write.knob for write in told] == ["memory.high"]
    assert told[0].why.startswith("unsupported: ")
    assert world.text("besteffort/podg-2/cpu.weight") == "2"


def test_a_refused_knob_is_told_with_the_reason_and_retried_with_growing_patience() -> None:
    world = World()
    tries: list[str] = []

    def refuse(path: str, text: str) -> str:
        tries.append(text)
        raise Refused(f"write {path}: EBUSY")

    world.host.on_write("memory.max", refuse)
    world.hear(advice(1, for_pod("g-1", memory_max=1 << 30)), at=0.5)
    assert "EBUSY" in world.last[-1].why
    for second in range(1, 33):
        world.tick(float(second))
    assert 4 <= len(tries) <= 7


def test_a_cgroup_that_vanishes_is_forgotten_without_noise() -> None:
    world = World().hear(advice(1, for_pod("g-1", cpu_weight=2)))
    world.host.remove(f"{MOUNT}/kubepods/{GUEST}")
    said = len(world.said)
    world.tick(2.0)
    assert len(world.said) == said
    assert world.journal.load() == {}


def test_a_pod_that_ends_while_it_is_read_is_not_taken_for_a_kernel_that_lacks_everything() -> None:
    host = a_host()
    for name in POD_FILES:
        host.remove(f"{MOUNT}/kubepods/{GUEST}/{name}")
    world = World(host).hear(advice(1, for_pod("g-1", cpu_weight=2, cpus="0-3")))
    assert [write for said in world.said for write in said.writes] == []
    assert "cpu.weight" not in world.enforcement[-1].unsupported


def test_a_host_that_cannot_be_listed_is_not_taken_for_an_empty_one() -> None:
    world = World().hear(advice(1, for_pod("g-1", cpu_weight=2)))
    root = world.host.read(f"{MOUNT}/cpuset.cpus.effective")
    world.host = MemoryHost({f"{MOUNT}/cpuset.cpus.effective": root})
    world.hands = Hands(world.host, world.journal, KNOBS, world.settings.cgroup_roots)
    world.tick(2.0)
    assert world.journal.load() != {}
    assert world.counted["neap_enforcer_failed_total"] == 1


def test_every_process_of_a_pod_gets_its_oom_score_and_its_own_back() -> None:
    world = World(tasks_every=2)
    world.host.put(f"{MOUNT}/kubepods/{GUEST}/c1/cgroup.procs", "11\n12\n")
    world.host.put("/proc/11/oom_score_adj", "1000\n")
    world.host.put("/proc/12/oom_score_adj", "-17\n")
    world.hear(advice(1, for_pod("g-1", oom_score_adj=900)))
    assert world.host.read_all(["/proc/11/oom_score_adj", "/proc/12/oom_score_adj"]) == ["900", "900"]
    world.host.put(f"{MOUNT}/kubepods/{GUEST}/c1/cgroup.procs", "11\n12\n13\n")
    world.host.put("/proc/13/oom_score_adj", "0\n")
    world.tick(2.0)
    assert world.host.read("/proc/13/oom_score_adj") == "0\n", (
        "without a watch that tells, tasks are not read each time"
    )
    world.tick(3.0)
    assert world.host.read("/proc/13/oom_score_adj") == "900"
    world.live(Stopping(4.0))
    assert world.host.read_all([f"/proc/{pid}/oom_score_adj" for pid in (11, 12, 13)]) == ["1000", "-17", "1000"]


def test_a_pods_trail_tells_the_first_application_and_a_great_loss_only() -> None:
    world = World().hear(advice(1, for_pod("g-1", cpus="0-7")))
    for seq, cpus in enumerate(("0-6", "0-5", "0-2", "0-2", "0-7"), start=2):
        world.hear(advice(seq, for_pod("g-1", cpus=cpus))).tick(seq + 0.5)
    assert [entry.id for entry in world.trail] == ["g-1.1.applied", "g-1.1.applied.n1.4"]
    assert "0-5 -> 0-2" in world.trail[1].why
    assert "advice 4 of n1" in world.trail[1].why
    assert world.trail[0].trace


def test_a_restarted_enforcer_does_not_tell_the_first_application_again() -> None:
    world = World().hear(advice(1, for_pod("g-1", cpus="0-3")))
    world.start()
    world.hear(advice(2, for_pod("g-1", cpus="0-3")))
    assert len(world.trail) == 1


def test_redelivered_and_older_advice_and_answers_change_nothing() -> None:
    world = World().hear(advice(5, for_pod("g-1", cpu_weight=2)))
    said, writes = len(world.said), world.writes
    world.live(
        Arrived(6.0, advice(5, for_pod("g-1", cpu_weight=2))),
        Arrived(6.0, advice(4, for_pod("g-1", cpu_weight=9))),
        Synced(6.0, ADVICE),
        Done(6.0, world.applies[0], ()),
    )
    assert (len(world.said), world.writes) == (said, writes)


def test_memory_limits_agree_although_the_kernel_keeps_whole_pages() -> None:
    knob = KNOBS["memory.max"]
    assert knob.same("1000000", "999424\n")
    assert not knob.same("1000000", "995328\n")
    assert knob.same("max", "max\n")
    assert not knob.same("max", "4096\n")
