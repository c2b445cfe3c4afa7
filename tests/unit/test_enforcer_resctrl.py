"""Groups of cache and bandwidth: made, filled, emptied and taken away again, on a host that behaves as resctrl does."""

from __future__ import annotations

from typing import Any

import pytest

from neap.common.host.memory import Knob, MemoryHost
from neap.common.host.port import Refused
from neap.common.model.advice import CgroupAdvice, NodeAdvice, ResctrlAdvice, WriteStatus
from neap.common.model.enforcement import Rung
from neap.common.runtime.machine import Stopping
from neap.enforcer.core.rdt import RESCTRL
from tests.unit.test_enforcer_machine import KNOBS, MOUNT, World, a_host, as_kernel, for_pod

CLOSED = 3  # classes of service besides the root group's
WHOLE = {("L3", "0"): "ff", ("L3", "1"): "ff", ("MB", "0"): "100", ("MB", "1"): "100"}


class ResctrlHost(MemoryHost):
    """resctrl as the kernel plays it: schemata by domain, a task is in one group, groups are few."""

    def mount(self, *groups: str) -> ResctrlHost:
        self.members: dict[str, list[int]] = {}
        self.put(RESCTRL, {})
        self._group("")
        for group in groups:
            self.make_folder(f"{RESCTRL}/{group}")
        return self

    def make_folder(self, path: str) -> None:
        name = path.removeprefix(f"{RESCTRL}/")
        if not self.exists(path) and path.startswith(RESCTRL):
            if len(self.members) > CLOSED:
                raise Refused(f"make {path}: No space left on device (ENOSPC)")
            super().make_folder(path)
            self._group(name)

    def remove_folder(self, path: str) -> None:
        super().remove_folder(path)
        self.members[""] += self.members.pop(path.removeprefix(f"{RESCTRL}/"))

    def _group(self, name: str) -> None:
        at = f"{RESCTRL}/{name}".rstrip("/")
        lines = dict(WHOLE)
        self.members[name] = []

        def show() -> str:
            of = {kind: [f"{d}={v:>4}" for (k, d), v in sorted(lines.items()) if k == kind] for kind in ("L3", "MB")}
            return "".join(f"    {kind}:{';'.join(parts)}\n" for kind, parts in of.items())

        def take(text: str) -> None:
            for line in text.strip().splitlines():
                kind, _, rest = line.partition(":")
                for part in rest.split(";"):
                    domain, _, value = part.partition("=")
                    if (kind, domain) not in lines:
                        raise Refused(f"write {at}/schemata: {part} (EINVAL)")
                    lines[kind, domain] = str(-(-int(value) // 10) * 10) if kind == "MB" else value

        def move(text: str) -> None:
            for members in self.members.values():
                if int(text) in members:
                    members.remove(int(text))
            self.members[name].append(int(text))

        self.put(f"{at}/schemata", Knob(show, take))
        self.put(f"{at}/tasks", Knob(lambda: "".join(f"{tid}\n" for tid in self.members[name]), move))


def a_rdt_host(*groups: str) -> ResctrlHost:
    host = ResctrlHost()
    host._own = a_host()._own
    as_kernel(host)
    host.mount(*groups)
    run(host, "besteffort/podg-1/c1", 11, 12)
    run(host, "poddb/c1", 31)
    return host


def run(host: ResctrlHost, container: str, *tids: int) -> None:
    """Tasks in a container, and in the root group."""
    host.put(f"{MOUNT}/kubepods/{container}/cgroup.threads", "".join(f"{tid}\n" for tid in tids))
    host.members[""] += [tid for tid in tids if not any(tid in members for members in host.members.values())]


def told(seq: int, *cgroups: CgroupAdvice, groups: dict[str, dict[str, str]]) -> NodeAdvice:
    resctrl = tuple(ResctrlAdvice(group=name, schemata=lines) for name, lines in groups.items())
    return NodeAdvice(
        at=float(seq), source="a", node="n1", seq=seq, expires=1e9, pools=(), cgroups=cgroups, resctrl=resctrl
    )


LIMITED: dict[str, dict[str, str]] = {"guests": {"MB": "0=50;1=50", "L3": "0=f"}}


def statuses(world: World, knob: str) -> list[tuple[WriteStatus, str]]:
    return [(write.status, write.why) for said in world.said for write in said.writes if write.knob == knob]


def test_a_group_is_made_limited_and_filled_and_all_of_it_goes_with_the_enforcer() -> None:
    host = a_rdt_host()
    world = World(host).hear(told(1, for_pod("g-1", resctrl="guests"), groups=LIMITED))
    assert host.members["guests"] == [11, 12]
    assert host.read(f"{RESCTRL}/guests/schemata").split() == ["L3:0=", "f;1=", "ff", "MB:0=", "50;1=", "50"]
    writes = world.writes
    world.tick(2.0).tick(3.0)
    assert world.writes == writes
    world.live(Stopping(4.0))
    assert sorted(host.members) == [""]
    assert {11, 12} <= set(host.members[""])
    assert world.said[-1].restored
    assert world.journal.load() == {}


def test_a_group_that_was_there_keeps_its_own_limits_and_its_existence() -> None:
    host = a_rdt_host("guests")
    host.write(f"{RESCTRL}/guests/schemata", "L3:0=3f;1=3f")
    before = host.read(f"{RESCTRL}/guests/schemata")
    world = World(host).hear(told(1, groups=LIMITED))
    assert host.read(f"{RESCTRL}/guests/schemata") != before
    world.live(Stopping(2.0))
    assert host.read(f"{RESCTRL}/guests/schemata") == before


def test_tasks_go_back_to_the_group_they_were_in_and_late_ones_to_where_their_parent_was() -> None:
    host = a_rdt_host("gold")
    host.write(f"{RESCTRL}/gold/tasks", "12")
    world = World(host, tasks_every=1).hear(told(1, for_pod("g-1", resctrl="guests"), groups=LIMITED))
    run(host, "besteffort/podg-1/c1", 11, 12, 13)
    world.tick(2.0)
    assert sorted(host.members["guests"]) == [11, 12, 13]
    world.live(Stopping(3.0))
    assert host.members["gold"] == [12]
    assert {11, 13} <= set(host.members[""])


def test_a_group_no_longer_advised_is_taken_away_and_the_rest_stays() -> None:
    host = a_rdt_host()
    pods = (for_pod("g-1", resctrl="guests", cpu_weight=2), for_pod("db", resctrl="owners"))
    world = World(host).hear(told(1, *pods, groups=LIMITED | {"owners": {"MB": "0=100"}}))
    assert host.members["owners"] == [31]
    world.hear(told(2, for_pod("g-1", resctrl="", cpu_weight=2), groups={}))
    assert sorted(host.members) == [""]
    assert world.text("besteffort/podg-1/cpu.weight") == "2"


def test_the_limits_of_the_root_group_can_be_advised_and_come_back() -> None:
    host = a_rdt_host()
    before = host.read(f"{RESCTRL}/schemata")
    world = World(host).hear(told(1, groups={"": {"MB": "1=70"}}))
    assert "1=  70" in host.read(f"{RESCTRL}/schemata")
    world.live(Stopping(2.0))
    assert host.read(f"{RESCTRL}/schemata") == before


def test_when_the_processor_has_no_class_left_that_is_told_and_everything_else_works() -> None:
    host = a_rdt_host("a", "b", "c")
    world = World(host).hear(told(1, for_pod("g-1", resctrl="guests", cpu_weight=2), groups=LIMITED))
    assert world.text("besteffort/podg-1/cpu.weight") == "2"
    assert [status for status, why in statuses(world, "resctrl group") if "ENOSPC" in why] == [WriteStatus.REFUSED]
    assert "no resctrl group guests" in statuses(world, "resctrl")[0][1]
    world.live(Stopping(2.0))
    assert sorted(host.members) == ["", "a", "b", "c"]


def test_without_resctrl_it_is_unsupported_once_and_everything_else_works() -> None:
    world = World().hear(told(1, for_pod("g-1", resctrl="guests", cpu_weight=2), groups=LIMITED)).tick(2.0).tick(3.0)
    assert world.text("besteffort/podg-1/cpu.weight") == "2"
    for knob in ("resctrl", "resctrl group", "schemata"):
        assert statuses(world, knob) == [
            (WriteStatus.UNSUPPORTED, "unsupported: resctrl is not mounted at /sys/fs/resctrl")
        ]
    assert world.enforcement[-1].rung is Rung.CGROUP
    assert "resctrl" in world.enforcement[-1].unsupported


@pytest.mark.parametrize("name", ["..", "a/b", "info", "", " ", "x" * 70])
def test_a_group_whose_name_points_elsewhere_is_refused(name: str) -> None:
    host = a_rdt_host()
    groups: dict[str, dict[str, str]] = {name: {"MB": "0=50"} if name else {}}
    world = World(host).hear(told(1, groups=groups))
    assert world.writes == 0
    assert world.last[0].status is WriteStatus.REFUSED


@pytest.mark.parametrize("lines", [{"MB": "0=50;;"}, {"MB": "x"}, {"../x": "0=1"}, {"MB": "0=-1"}, {"L3": "0=fg"}])
def test_odd_schemata_are_refused_before_anything_is_written_for_them(lines: dict[str, str]) -> None:
    world = World(a_rdt_host()).hear(told(1, groups={"guests": lines}))
    refused: list[Any] = [write for write in world.last if write.status is WriteStatus.REFUSED]
    assert [write.knob for write in refused] == ["schemata"]


def test_schemata_agree_although_the_kernel_pads_and_rounds() -> None:
    knob = KNOBS["schemata"]
    assert knob.same("MB:0=55", "    MB:0=  60;1= 100\n    L3:0=0ff;1=0ff\n")
    assert knob.same("L3:0=f", "L3:0=00f;1=fff")
    assert not knob.same("MB:0=50", "MB:0=100;1=100")
    assert not knob.same("MB:2=50", "MB:0=50;1=50")
