"""Row 6: a guest fills the page cache and allocates; the owner notices nothing, and the node never runs out."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from tests.lab.inside.enforcing import an_enforcer, of_class, of_pod
from tests.lab.inside.kernel import node_event
from tests.lab.inside.pods import Kubelet
from tests.lab.inside.wait import until

MIB = 1 << 20
FILE = Path("/mnt/archive")
FILE_MIB = 900
OWNER_MIB = 100
DOWN_TO, HIGH, MOST = 64 * MIB, 128 * MIB, 512 * MIB
SLACK = 24 * MIB  # per-CPU stocks of the counters, and what is read while the kernel takes back
PERIOD = 0.25  # memory is taken in steps, one a period
WATCHED = 3.0  # seconds a limit is looked at


def test_a_guests_page_cache_and_memory_are_held_down_and_the_owner_notices_nothing(
    kubelet: Kubelet, journal: Path, figures: dict[str, Any]
) -> None:
    with FILE.open("wb") as archive:
        os.truncate(archive.fileno(), FILE_MIB * MIB)
    owner, guest = kubelet.pod("owner-1", "burstable"), kubelet.pod("guest-1", "besteffort")
    owner.start("main", "hold", str(OWNER_MIB), "again")
    mine, theirs = owner.cgroup, guest.cgroup
    held, stalled = mine.number("memory.current"), mine.stall("memory")["total"]
    kills, moved = node_event("oom_kill"), []

    def look() -> int:
        moved.append(abs(mine.number("memory.current") - held))
        return theirs.number("memory.current")

    with an_enforcer(journal, period=PERIOD) as enforcer:
        lent = of_class("besteffort", "reclaimed", cpus="2-7")
        enforcer.applied(enforcer.advise(lent, of_pod(owner.uid, "share", cpus="2-7")))
        reader = guest.start("main", "read", str(FILE), str(FILE_MIB))
        until(lambda: look() > 300 * MIB, "the guest has filled the page cache", within=90)
        filled = look()
        os.kill(reader.pid, 19)  # SIGSTOP: nobody reads while it is taken back
        enforcer.applied(enforcer.advise(lent, of_pod(guest.uid, "reclaimed", memory_down_to=DOWN_TO)))
        until(lambda: look() <= DOWN_TO + SLACK, f"memory.reclaim has brought {filled >> 20} MiB down", within=60)
        reclaimed = look()

        limited = of_pod(guest.uid, "reclaimed", memory_high=HIGH, memory_max=MOST)
        enforcer.applied(enforcer.advise(lent, limited))
        before = theirs.table("memory.events")["high"]
        os.kill(reader.pid, 18)  # SIGCONT
        until(lambda: look() and theirs.table("memory.events")["high"] > before, "memory.high acts", within=60)
        end, most = time.monotonic() + WATCHED, 0
        while time.monotonic() < end:
            most = max(most, look())
            time.sleep(0.05)
        high = theirs.table("memory.events")["high"] - before

        reader.kill()
        reader.wait(20)
        hog = guest.start("hog", "hold", str(2 * HIGH // MIB), ready=False)  # twice what it may have
        until(lambda: look() >= HIGH - SLACK, "the guest has allocated all it may have", within=60)
        end, allocated = time.monotonic() + WATCHED, 0
        while time.monotonic() < end:
            allocated = max(allocated, look())
            time.sleep(0.05)
        assert hog.poll() is None, "the guest was to be slowed down, not killed"
        waited = theirs.stall("memory")["total"]
    figures.update(
        guest_cache_mib=filled >> 20, after_reclaim_mib=reclaimed >> 20, wanted_mib=DOWN_TO >> 20,
        high_mib=HIGH >> 20, most_under_high_mib=most >> 20, high_events=high, allocating_mib=allocated >> 20,
        owner_mib=held >> 20, owner_moved_kib=max(moved) >> 10,
        owner_stalled_ms=(mine.stall("memory")["total"] - stalled) / 1000, guest_stalled_ms=waited / 1000,
        oom_kills=node_event("oom_kill") - kills,
    )  # fmt: skip
    assert most <= HIGH + SLACK, f"{most >> 20} MiB of page cache under memory.high {HIGH >> 20} MiB"
    assert max(moved) < held // 20, f"the owner's {held >> 20} MiB moved by {max(moved) >> 10} KiB"
    assert mine.stall("memory")["avg10"] < 1.0, "the owner waits for memory"
    assert mine.table("memory.events")["oom_kill"] == 0
    assert node_event("oom_kill") == kills, "somebody was killed"
    assert waited > 0, "the guest that allocates too much does not feel it"
