"""What comes in between: somebody else's writes, containers that come and go, knobs this kernel lacks, throttling."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from neap.common.model.advice import WriteStatus
from tests.lab.inside.enforcing import an_enforcer, of_class, of_pod
from tests.lab.inside.kernel import allowed
from tests.lab.inside.pods import Dial, Kubelet
from tests.lab.inside.wait import until

PERIOD = 1.0
DRIFTS = 5


def test_a_foreign_write_is_repaired_within_one_period(
    kubelet: Kubelet, journal: Path, figures: dict[str, Any]
) -> None:
    owner, guest = kubelet.pod("owner-1", "burstable"), kubelet.pod("guest-1", "besteffort")
    owner.start("main", "hold", "1")
    [pid] = (guest.start("main", "hold", "1"), guest.cgroup.processes())[1]
    with an_enforcer(journal, period=PERIOD, reconcile_every=1) as enforcer:
        advice = (
            of_class("besteffort", "reclaimed", cpus="6-7"),
            of_pod(owner.uid, "share", cpus="2-5"),
            of_pod(guest.uid, "reclaimed", cpus="6-7"),
        )
        enforcer.applied(enforcer.advise(*advice))
        assert allowed(pid) == {6, 7}
        took = []
        for _ in range(DRIFTS):
            guest.cgroup.write("cpuset.cpus", "7")
            start = time.monotonic()
            assert allowed(pid) == {7}
            told = enforcer.hear(
                lambda applied: any(write.why == "drift" for write in applied.writes), "the drift told"
            )
            assert allowed(pid) == {6, 7}, "told, but not repaired"
            took.append(time.monotonic() - start)
            assert [write.knob for write in told.writes] == ["cpuset.cpus"]
    figures.update(drifts=DRIFTS, period=PERIOD, repaired_seconds=[round(seconds, 2) for seconds in took])
    assert min(took) <= PERIOD + 0.5, "not one was repaired within a period, on this emulated machine"


def test_containers_that_come_later_or_again_are_under_the_advice(
    kubelet: Kubelet, journal: Path, figures: dict[str, Any]
) -> None:
    guest = kubelet.pod("guest-1", "besteffort")
    guest.start("first", "hold", "1")
    with an_enforcer(journal, period=PERIOD) as enforcer:
        lent = of_class("besteffort", "reclaimed", cpus="6-7", cpu_weight=1)
        enforcer.applied(
            enforcer.advise(lent, of_pod(guest.uid, "reclaimed", cpus="6-7"), of_pod("guest-2", "reclaimed", cpus="7"))
        )
        later = guest.start("second", "hold", "1")
        assert allowed(later.pid) == {6, 7}, "a container of a known pod inherits what the pod has"
        start = time.monotonic()
        fresh = kubelet.pod("guest-2", "besteffort")
        task = fresh.start("main", "hold", "1")
        assert allowed(task.pid) <= {6, 7}, "a new guest inherits what its class has, before anybody looks"
        until(lambda: allowed(task.pid) == {7}, "a pod that the advice knew before it was there gets its own CPUs")
        caught = time.monotonic() - start
        fresh.end()
        again = kubelet.pod("guest-2", "besteffort")
        task = again.start("main", "hold", "1")
        until(lambda: allowed(task.pid) == {7}, "the same pod, started again, gets them again")
    figures.update(period=PERIOD, new_pod_caught_seconds=round(caught, 2))


def test_a_quota_throttles_and_a_knob_the_kernel_lacks_is_named(
    kubelet: Kubelet, journal: Path, figures: dict[str, Any]
) -> None:
    dial, guest = Dial(1), kubelet.pod("guest-1", "besteffort")
    dial.turn(0, 1.0)
    guest.start("main", "spin", dial.path, "0")
    assert guest.cgroup.table("cpu.stat")["nr_throttled"] == 0
    with an_enforcer(journal, period=PERIOD) as enforcer:
        told = enforcer.applied(
            enforcer.advise(
                of_class("besteffort", "reclaimed", cpus="6-7"),
                of_pod(guest.uid, "reclaimed", cpus="6-7", cpu_max=0.2, resctrl="guests", io_weight=50),
            )
        )
        until(lambda: guest.cgroup.table("cpu.stat")["nr_throttled"] >= 5, "the kernel throttles the guest")
        first, start = guest.cgroup.table("cpu.stat")["usage_usec"], time.monotonic()
        until(lambda: time.monotonic() > start + 3, "three seconds")
        used = (guest.cgroup.table("cpu.stat")["usage_usec"] - first) / 1e6 / (time.monotonic() - start)
        lacking = [write for write in told.writes if write.status is WriteStatus.UNSUPPORTED]
    figures.update(
        quota_cores=0.2, used_cores=round(used, 3), unsupported={write.knob: write.why for write in lacking}
    )  # fmt: skip
    assert used < 0.3
    assert any("resctrl" in write.knob for write in lacking), "resctrl is not there in emulation, and nobody says so"
    assert all(write.why for write in lacking)
