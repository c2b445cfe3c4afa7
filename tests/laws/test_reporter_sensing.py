"""Containers come, go and lose files while they are read: whatever is told was in a file of that very round."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from neap.common.host.memory import MemoryHost
from neap.reporter.reader import NodeReader
from neap.reporter.settings import Settings

ROOT = "/sys/fs/cgroup/kubepods/burstable"
PLACES = tuple(f"{ROOT}/pod{pod}/{name}" for pod in "ab" for name in ("one", "two"))
WAITED = "some avg10=1.00 avg60=1.00 avg300=1.00 total={0}\nfull avg10=1.00 avg60=1.00 avg300=1.00 total={0}\n"
FILES = {
    "cpu.stat": "usage_usec {0}\nthrottled_usec {0}\n",
    "memory.current": "{0}\n",
    "memory.stat": "file {0}\ninactive_file 1\nworkingset_refault_anon 0\nworkingset_refault_file {0}\n",
    "memory.events": "oom 5\noom_kill {0}\n",
    "cpu.pressure": WAITED,
    "io.pressure": WAITED,
    "io.stat": "8:0 rbytes={0} wbytes={0} rios=1\n",
    "cpuset.cpus.effective": "0-1\n",
}
TOLD_BY = {
    "cpu": "cpu.stat",
    "throttled": "cpu.stat",
    "memory": "memory.current",
    "file_cache": "memory.stat",
    "working_set": "memory.stat",
    "refaults": "memory.stat",
    "oom_kills": "memory.events",
    "cpuset": "cpuset.cpus.effective",
    "cpu_stall": "cpu.pressure",
    "io_stall": "io.pressure",
    "io_read": "io.stat",
    "io_write": "io.stat",
}
RATES = ("cpu", "throttled", "refaults", "io_read", "io_write")
trees = st.dictionaries(st.sampled_from(PLACES), st.sets(st.sampled_from(sorted(FILES))), max_size=4)


@given(st.lists(trees, min_size=1, max_size=6), st.booleans())
def test_a_field_is_known_only_while_its_file_is_there_and_a_rate_only_after_two_readings(
    rounds: list[dict[str, set[str]]], falling: bool
) -> None:
    now, host = 1000.0, MemoryHost()
    reader = NodeReader(host, clock=lambda: now, node="n1", settings=Settings(period=60.0, relist_every=1))
    before: dict[str, set[str]] = {}
    for number, tree in enumerate(rounds):
        now += 60.0
        if host.exists("/sys/fs/cgroup"):
            host.remove("/sys/fs/cgroup")
        counter = 10**9 - number * 10**6 if falling else 10**9 + number * 10**6
        for place, names in tree.items():
            host.put(f"{place}/cgroup.procs", "1\n")
            for name in names:
                host.put(f"{place}/{name}", FILES[name].format(counter))
        usage = reader.sample()
        known = {f"/sys/fs/cgroup/{one.cgroup}": one for one in usage.containers}
        assert known.keys() == {place for place, names in tree.items() if names}, "those with a file, and no others"
        for place, container in known.items():
            for field, file in TOLD_BY.items():
                value = getattr(container, field)
                needs_two = field in RATES
                was_there = not needs_two or (file in tree[place] and file in before.get(place, ()) and not falling)
                assert value is None or (file in tree[place] and was_there), f"{field} without {file}"
                if file in tree[place] and was_there and field != "working_set":
                    assert value is not None, f"{field} although {file} was there"
        before = {place: names for place, names in tree.items() if names}
