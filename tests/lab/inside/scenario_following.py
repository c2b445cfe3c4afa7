"""What comes in between: somebody else's writes, containers that come and go, knobs this kernel lacks, throttling."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from neap.common.host.watch import GATHER
from neap.common.model.advice import WriteStatus
from tests.lab.inside.enforcing import an_enforcer, of_class, of_pod
from tests.lab.inside.kernel import allowed
from tests.lab.inside.pods import Dial, Kubelet
from tests.lab.inside.wait import until

PERIOD = 1.0
DRIFTS = 5
SELDOM = 60.0  # a period in which only the folder watch can have caught anybody
COMERS, SCORE = 8, 500
WANTED_MS = 100  # on a real machine; emulation is many times slower (the lab's figure slower_by)
CAUGHT = 5.0  # seconds


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


def test_the_folder_watch_catches_pods_and_containers_between_two_periods(
    kubelet: Kubelet, journal: Path, figures: dict[str, Any]
) -> None:
    pods = [f"guest-{number}" for number in range(COMERS)]
    kubelet.pod("owner-1", "burstable", container="main")
    new, known = [], []
    with an_enforcer(journal, period=SELDOM) as enforcer:
        lent = of_class("besteffort", "reclaimed", cpus="6-7")
        advice = (of_pod(uid, "reclaimed", cpus="7", oom_score_adj=SCORE) for uid in pods)
        enforcer.applied(enforcer.advise(lent, *advice), within=SELDOM / 2)
        began = time.monotonic()
        for uid in pods:
            with a_sleeper() as pid:
                start = time.monotonic()
                pod = kubelet.pod(uid, "besteffort")
                pod.container("main").write("cgroup.procs", str(pid))
                new.append((shows(start, pod.cgroup.path / "cpuset.cpus", "7"), scored(start, pid)))
                with a_sleeper() as later:
                    start = time.monotonic()
                    pod.container("second").write("cgroup.procs", str(later))
                    known.append(scored(start, later))
        assert time.monotonic() - began < SELDOM, "a tick may have come in between"
    took = {"new_pod_cpuset_ms": [cpus for cpus, _ in new], "new_pod_oom_score_ms": [score for _, score in new]}
    took["new_container_oom_score_ms"] = known
    figures.update(period=SELDOM, wanted_ms=WANTED_MS, of_that_gathering_ms=round(GATHER * 1000), **took)
    figures.update({f"{name}_median": round(statistics.median(times), 1) for name, times in took.items()})
    assert max(max(times) for times in took.values()) < CAUGHT * 1000


@contextmanager
def a_sleeper() -> Iterator[int]:
    """A process that is in no pod yet."""
    process = subprocess.Popen(["/usr/bin/sleep", "60"], stdin=subprocess.DEVNULL)
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait(20)


def scored(start: float, pid: int) -> float:
    """Milliseconds until the process has the advised oom_score_adj."""
    return shows(start, Path(f"/proc/{pid}/oom_score_adj"), str(SCORE))


def shows(start: float, file: Path, text: str) -> float:
    """Milliseconds from a moment until the kernel shows this; looked at without rest, for at most a while."""
    while file.read_text().strip() != text:
        assert time.monotonic() < start + CAUGHT, "the watch has not told of it"
        time.sleep(0.0005)
    return round((time.monotonic() - start) * 1000, 1)


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
