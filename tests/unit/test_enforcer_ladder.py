"""By which door advice reaches the containers, what the kernel lacks, and whether advice is followed now."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pytest

from neap.common.contract.catalogue import ADVICE, ENFORCEMENT
from neap.common.errors import Denied
from neap.common.host.memory import MemoryHost
from neap.common.host.port import Changed
from neap.common.host.watch import MemoryWatch
from neap.common.model.advice import NodeAdvice, WriteStatus
from neap.common.model.enforcement import NodeEnforcement, Rung, Stance
from neap.common.runtime.machine import Done, Failed, Gone, Heard, Put, Stopping, Synced
from neap.enforcer.core.instruction import Probe, RungFound, WatchFolders
from tests.laws.test_enforcer_crash import a_world as a_whole_world
from tests.unit.test_enforcer_machine import GUEST, MOUNT, POD_FILES, World, a_host, advice, as_kernel, for_pod

ROOT = f"{MOUNT}/kubepods"


def stances(world: World) -> list[tuple[Stance, str]]:
    return [(told.stance, told.why) for told in world.enforcement]


def test_a_node_waits_then_follows_and_is_safe_when_advice_is_not_renewed_and_says_each_once() -> None:
    world = World(grace=5.0).live(Synced(0.0, ADVICE)).tick(1.0).tick(2.0)
    world.hear(advice(7, for_pod("g-1", cpu_weight=2), at=3.0, expires=10.0))
    world.hear(advice(8, for_pod("g-1", cpu_weight=2), at=4.0, expires=20.0)).tick(5.0)
    world.tick(25.5).tick(26.0)
    back = "the node goes back to what kubelet would run"
    assert stances(world) == [
        (Stance.WAITING, "no advice yet"),
        (Stance.FOLLOWING, "since advice 7"),
        (Stance.SAFE, f"advice 8 expired at 20.000 and was not renewed within 5s: {back}"),
    ]
    assert world.said[-1].restored
    assert world.text(f"{GUEST}/cpu.weight") == "79"
    world.hear(advice(9, for_pod("g-1", cpu_weight=2), at=30.0))
    assert stances(world)[-1] == (Stance.FOLLOWING, "since advice 9")


def test_withdrawn_advice_silence_from_the_start_and_stopping_are_safe_and_say_why() -> None:
    world = World(grace=5.0).hear(advice(1, for_pod("g-1", cpu_weight=2)))
    world.live(Gone(2.0, ADVICE, "n1")).tick(8.0)
    assert stances(world)[-1][1].startswith("advice 1 was withdrawn")
    silent = World(grace=5.0).live(Synced(0.0, ADVICE)).tick(6.0)
    assert stances(silent)[-1][1].startswith("no advice within 5s of the start")
    stopped = World().hear(advice(1, for_pod("g-1", cpu_weight=2))).live(Stopping(2.0))
    assert stances(stopped)[-1][0] is Stance.SAFE
    assert stopped.said[-1].restored


def test_the_best_rung_that_works_is_the_nodes_and_every_probe_is_told() -> None:
    world = World().hear(advice(1))
    assert world.enforcement[-1].rung is Rung.CGROUP
    assert world.enforcement[-1].probes[Rung.NRI] == "not tried: no socket is named, or this host has no runtime"
    assert ROOT in world.enforcement[-1].probes[Rung.CGROUP]
    world.live(Heard(2.0, RungFound(Rung.NRI, works=True, why="containerd 2.1 answered")))
    assert world.enforcement[-1].rung is Rung.NRI
    assert world.enforcement[-1].probes[Rung.NRI] == "containerd 2.1 answered"
    world.live(Heard(3.0, RungFound(Rung.NRI, works=False, why="the runtime hung up")))
    assert world.enforcement[-1].rung is Rung.CGROUP


def test_without_cgroups_of_pods_advice_is_told_only_until_they_come() -> None:
    world = World(MemoryHost()).hear(advice(1, for_pod("g-1", cpu_weight=2))).tick(2.0)
    told = world.enforcement[-1]
    assert (told.rung, told.stance) == (Rung.ADVISE_ONLY, Stance.FOLLOWING)
    assert "told only" in told.why
    assert f"neither of {MOUNT}/kubepods.slice, {MOUNT}/kubepods is there" in told.why
    world.host._own = a_host()._own
    as_kernel(world.host)
    world.tick(3.0)
    assert world.enforcement[-1].rung is Rung.CGROUP
    assert world.text(f"{GUEST}/cpu.weight") == "2"


class ReadOnly(MemoryHost):
    def write(self, path: str, text: str) -> None:
        del text
        raise Denied(f"write {path}: Read-only file system (EROFS)")


def test_where_nothing_may_be_written_advice_is_told_write_by_write_and_nothing_is_tried() -> None:
    host = ReadOnly()
    host._own = a_host()._own
    host.put(f"{ROOT}/cgroup.subtree_control", "cpu memory\n")
    world = World(host).hear(advice(1, for_pod("g-1", cpu_weight=2))).tick(2.0).tick(3.0)
    assert world.enforcement[-1].rung is Rung.ADVISE_ONLY
    assert "EROFS" in world.enforcement[-1].probes[Rung.CGROUP]
    assert world.applies == []
    assert world.journal.load() == {}
    told = [write for said in world.said for write in said.writes]
    assert [(write.knob, write.after, write.status) for write in told] == [("cpu.weight", "2", WriteStatus.UNSUPPORTED)]
    assert "EROFS" in told[0].why
    world.live(Stopping(4.0))
    assert world.said[-1].restored


def test_to_feel_whether_writing_is_allowed_changes_nothing() -> None:
    world = a_whole_world()
    before = world.host.read(f"{ROOT}/cgroup.subtree_control")
    world.live(Synced(0.0, ADVICE))
    assert world.host.read(f"{ROOT}/cgroup.subtree_control") == before
    assert world.applies == []


def test_what_this_kernel_lacks_is_named_with_the_reason_before_anybody_asks_for_it() -> None:
    world = a_whole_world()
    world.host.put(f"{ROOT}/cgroup.controllers", "cpuset cpu memory\n")
    world.host.put("/proc/sys/kernel/osrelease", "5.10.0\n")
    for name in ("memory.pressure", "io.max", "cpu.max.burst"):
        world.host.remove(f"{ROOT}/{name}")
    world.host.put(f"{MOUNT}/io.cost.qos", "8:0 enable=0\n")
    world.host.remove("/sys/fs/resctrl")
    world.live(Synced(0.0, ADVICE))
    lacking = world.enforcement[-1].unsupported
    assert lacking["memory.reclaim"].startswith("no memory.pressure: the kernel was started without psi=1")
    assert lacking["io.max"] == f"no io.max: controller io is not enabled for {ROOT}"
    assert lacking["cpu.max.burst"].endswith("kernel 5.10.0 does not offer it")
    assert lacking["io.weight"] == "without effect: io.cost.qos of the root cgroup says enable=1 for no device"
    assert lacking["resctrl"] == "resctrl is not mounted at /sys/fs/resctrl"
    assert "cpu.weight" not in lacking


def test_what_is_lacking_is_told_once_and_works_as_soon_as_it_is_there() -> None:
    world = a_whole_world()
    world.settings = type(world.settings)(node="n1", probe_every=5)
    world.host.put(f"{MOUNT}/io.cost.qos", "8:0 enable=0\n")
    world.start()
    world.hear(advice(1, for_pod("g-1", io_weight=5, cpu_weight=2)))
    world.hear(advice(2, for_pod("g-1", io_weight=6, cpu_weight=2))).tick(3.0)
    assert [write.status for said in world.said for write in said.writes if write.knob == "io.weight"] == [
        WriteStatus.UNSUPPORTED
    ]
    world.host.put(f"{MOUNT}/io.cost.qos", "8:0 enable=1\n")
    for second in range(4, 10):
        world.tick(float(second))
    assert world.text(f"{GUEST}/io.weight").splitlines()[0] == "default 6"
    assert "io.weight" not in world.enforcement[-1].unsupported


def test_enforcement_that_the_bus_did_not_take_is_said_again() -> None:
    world = World().hear(advice(1))
    said = len(world.enforcement)
    put = Put(ENFORCEMENT.at(node="n1"), world.enforcement[-1])
    world.live(Failed(2.0, put, "nobody there", may_retry=True))
    assert len(world.enforcement) == said + 1


def test_nothing_is_said_of_a_host_that_was_not_looked_at_yet() -> None:
    world = World()
    (probe,) = world.machine.handle(Synced(0.0, ADVICE))
    assert isinstance(probe, Probe)
    (said,) = [item for item in world.machine.handle(Failed(1.0, probe, "no answer", may_retry=True)) if is_put(item)]
    assert said.value.probes[Rung.CGROUP] == "no answer"


def is_put(item: Any) -> bool:
    return isinstance(item, Put) and isinstance(item.value, NodeEnforcement)


# -- what comes between two looks ------------------------------------------------------------------------------------


def test_a_pod_whose_cgroup_comes_between_two_looks_is_caught_when_that_is_heard() -> None:
    world = World().hear(advice(1, for_pod("late", cpu_weight=2)))
    for name, text in POD_FILES.items():
        world.host.put(f"{ROOT}/besteffort/podlate/{name}", text)
    world.live(Heard(1.1, Changed((f"{ROOT}/besteffort",))))
    assert world.text("besteffort/podlate/cpu.weight") == "2"
    assert f"{ROOT}/besteffort/podlate" in world.watch._watched


def test_processes_of_a_container_that_starts_between_two_looks_are_caught() -> None:
    world = World().hear(advice(1, for_pod("g-1", oom_score_adj=900)))
    assert f"{ROOT}/{GUEST}/c1" in world.watch._watched
    world.host.put(f"{ROOT}/{GUEST}/c2/cgroup.procs", "")
    world.live(Heard(1.1, Changed((f"{ROOT}/{GUEST}",))))
    world.host.put(f"{ROOT}/{GUEST}/c2/cgroup.procs", "77\n")
    world.host.put("/proc/77/oom_score_adj", "0\n")
    world.live(Heard(1.2, Changed((f"{ROOT}/{GUEST}/c2",))))
    assert world.host.read("/proc/77/oom_score_adj") == "900"


def test_a_process_that_moves_in_between_the_look_and_the_watch_is_caught() -> None:
    class Late(MemoryWatch):
        """The process moves in a moment before the watch stands, so that nobody tells of it."""

        def follow(self, folders: Collection[str], files: Collection[str] = ()) -> Mapping[str, str]:
            if f"{ROOT}/{GUEST}/c2" in folders and not self._watched & {f"{ROOT}/{GUEST}/c2"}:
                world.host.put(f"{ROOT}/{GUEST}/c2/cgroup.procs", "77\n")
                world.host.put("/proc/77/oom_score_adj", "0\n")
            return super().follow(folders, files)

    world = World()
    world.watch = Late()
    world.start()
    world.hear(advice(1, for_pod("g-1", oom_score_adj=900)))
    world.host.put(f"{ROOT}/{GUEST}/c2/cgroup.procs", "")
    world.live(Heard(1.1, Changed((f"{ROOT}/{GUEST}",))))
    assert world.host.read("/proc/77/oom_score_adj") == "900"


@pytest.mark.parametrize("lost", [False, True])
def test_who_hears_of_changes_while_busy_looks_again_once(lost: bool) -> None:
    world = World().hear(advice(1, for_pod("g-1", cpu_weight=2)))
    (look,) = world.machine.handle(Heard(2.0, Changed((), lost)))
    for _ in range(5):
        assert world.machine.handle(Heard(2.0, Changed((), lost))) == []
    observed: Any = None
    try:
        world.hands.observe(look).send(None)  # type: ignore[arg-type]
    except StopIteration as done:
        observed = done.value
    answers = world.machine.handle(Done(2.1, look, observed))
    assert [type(item).__name__ for item in answers] == ["WatchFolders", "Observe"]


def test_a_node_without_advice_is_not_looked_at_however_much_stirs() -> None:
    world = World().live(Synced(0.0, ADVICE))
    assert world.machine.handle(Heard(1.0, Changed((ROOT,)))) == []


def test_directories_that_cannot_be_watched_are_counted() -> None:
    world = World().hear(advice(1, for_pod("g-1", cpu_weight=2)))
    watch = WatchFolders(("/x",), ())
    from neap.enforcer.core.instruction import Watched

    world.live(Done(2.0, watch, Watched({"/x": "no inotify watch left"})))
    assert world.counted["neap_enforcer_unwatched_total"] == 1


def test_a_long_list_of_writes_is_told_in_several_messages_and_the_last_one_says_restored() -> None:
    host = as_kernel(a_host())
    uids = [f"p{i}" for i in range(400)]
    for uid in uids:
        for name, text in POD_FILES.items():
            host.put(f"{ROOT}/besteffort/pod{uid}/{name}", text)
    told: NodeAdvice = advice(1, *(for_pod(uid, cpu_weight=2, memory_high=1 << 30, cpu_max=1.0) for uid in uids))
    world = World(host).hear(told)
    assert [len(said.writes) for said in world.said] == [1000, 200]
    world.live(Stopping(2.0))
    assert [(len(said.writes), said.restored) for said in world.said[2:]] == [(1000, False), (200, True)]
