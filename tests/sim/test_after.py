"""The looks taken after the troubles see what they are there for."""

from __future__ import annotations

from neap.common.model.advice import CgroupAdvice, Knobs, NodeAdvice
from neap.common.model.qos import KubeQos
from neap.common.units import MIB
from neap.virtual.kernel import VirtualHost
from neap.virtual.pod import VirtualContainer, VirtualPod
from neap.virtual.snapshot import load_snapshots
from tests.sim.after import KUBEPODS, narrow
from tests.sim.small import examples


def test_a_knob_narrower_than_the_advice_is_found() -> None:
    (machine,) = load_snapshots(examples() / "machines", "16amd64-8n2c")
    host = VirtualHost(machine, node="n")
    container = VirtualContainer(id="c")
    host.start(VirtualPod(uid="a", qos=KubeQos.BEST_EFFORT, containers=(container,)))
    knobs = {"class/besteffort": Knobs(cpus="0-3", cpu_max=4.0), "pod/a": Knobs(cpus="0-3")}
    cgroups = tuple(CgroupAdvice(target=target, pool="reclaimed", knobs=knob) for target, knob in knobs.items())
    advice = NodeAdvice(at=0.0, source="a", node="n", seq=1, expires=1.0, pools=(), cgroups=cgroups)
    guests, pod = f"{KUBEPODS}/besteffort", f"{KUBEPODS}/besteffort/poda"
    for path, text in (
        (f"{guests}/cpuset.cpus", "0-3"),
        (f"{pod}/cpuset.cpus", "0-3"),
        (f"{guests}/cpu.max", "400000 100000"),
    ):
        host.write(path, text)
    assert list(narrow(host, advice)) == []
    for path, text, word in (
        (f"{pod}/cpuset.cpus", "0-2", "lacks CPUs [3]"),
        (f"{guests}/cpu.max", "200000 100000", "cpu.max 200000"),
        (f"{guests}/memory.high", str(64 * MIB), "memory.high 67108864"),
        (f"{KUBEPODS}/burstable/cpuset.cpus", "0-1", "no advice says so"),
    ):
        host.write(path, text)
        assert any(word in found for found in narrow(host, advice)), word
