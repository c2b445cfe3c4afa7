"""Row 8: tasks and pages on the bound NUMA node, and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neap.common.cpuset import format_cpuset, parse_cpuset
from tests.lab.inside.enforcing import an_enforcer, of_class, of_pod
from tests.lab.inside.kernel import allowed, pages
from tests.lab.inside.pods import Kubelet
from tests.lab.inside.wait import until
from tests.lab.machine import NUMA_CPUS

MIB = 24
PAGES = MIB << 8


def test_a_bound_pods_tasks_and_pages_lie_on_its_node_and_follow_it(
    kubelet: Kubelet, journal: Path, figures: dict[str, Any]
) -> None:
    bound, early = kubelet.pod("bound-1", "guaranteed"), kubelet.pod("bound-2", "guaranteed")
    guest = kubelet.pod("guest-1", "besteffort")
    guest.start("main", "hold", "4", "again")
    old = early.start("main", "hold", str(MIB), "again")  # was there before the advice: its pages must come along
    with an_enforcer(journal) as enforcer:
        for first, second in ((2, 3), (3, 1), (0, 2)):
            rest = format_cpuset(parse_cpuset("0-7") - parse_cpuset(NUMA_CPUS[first]) - parse_cpuset(NUMA_CPUS[second]))
            applied = enforcer.applied(
                enforcer.advise(
                    of_class("besteffort", "reclaimed", cpus=rest),
                    of_pod(bound.uid, "dedicated", cpus=NUMA_CPUS[first], mems=str(first)),
                    of_pod(early.uid, "dedicated", cpus=NUMA_CPUS[second], mems=str(second)),
                )
            )
            assert not [write for write in applied.writes if write.status != "written"]
            new = bound.start("main", "hold", str(MIB))
            for process, node in ((new, first), (old, second)):
                pid = process.pid
                until(
                    lambda pid=pid, node=node: set(pages(pid)) == {node},
                    f"all pages of {pid} on node {node}: {pages(pid)}",
                )
                assert pages(pid)[node] >= PAGES
                assert allowed(pid) == parse_cpuset(NUMA_CPUS[node])
                assert allowed(pid, "Mems") == {node}
            [guest_pid] = guest.cgroup.processes()
            assert not allowed(guest_pid) & (allowed(new.pid) | allowed(old.pid)), "a guest may run there too"
            figures[f"node_{first}"] = f"started there: {pages(new.pid)}"
            figures[f"node_{second}_moved"] = f"came along: {pages(old.pid)}"
            new.kill()
            new.wait(20)
    assert allowed(old.pid, "Mems") == set(range(len(NUMA_CPUS))), "after the stop it may allocate everywhere again"
