"""10^5 texts no kernel writes, through everything that reads a kernel's files: no exception escapes, nothing is made up.

Every collector and every knob that is found is fuzzed, whoever wrote it: with the text of its own file mangled, and
with the texts of others. What is told must be in the text, as plain_reading finds it. The texts are seeded, so a
failure names one that can be made again; outside of CI it is a tenth of them.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import Any

import msgspec
import pytest

from neap.common.contract.catalogue import NODE_USAGE, TOPOLOGY
from neap.common.cpuset import parse_cpuset
from neap.common.errors import InputError
from neap.common.model.topology import Zone
from neap.common.model.usage import ContainerUsage, NodeUsage
from neap.common.runtime.plugins import load
from neap.enforcer.core.knob import Knob, by_file
from neap.reporter.core.collector import MACHINE, Scope, Surroundings
from neap.reporter.core.containers import CONTAINER_LIMIT, ROOT, Inventory
from neap.reporter.core.surroundings import caches
from neap.reporter.core.topology.build import Reserve, build
from neap.reporter.core.topology.nccl import read_nccl
from neap.reporter.core.topology.snapshot import NODE_DIR, PCI_DIR, Snapshot
from neap.reporter.reader import NodeReader
from neap.reporter.settings import Settings
from neap.reporter.shell.host import look_around, read_snapshot
from neap.reporter.wiring import COLLECTORS
from tests.conftest import SHARED
from tests.laws.kernel_files import CONTAINERS, CPUS, FILES, NCCL, SPACES, machine
from tests.laws.mangled import ALONE, Mangler
from tests.laws.plain_reading import available, derivable, kib, lines, misread, numbers, whole

TENTH = 1 if os.environ.get("CI") else 10
TURNS = range(2)
KNOBS = by_file(load("neap.enforcer.plugins", Knob))
KINDS: dict[Scope, type[msgspec.Struct]] = {Scope.NODE: NodeUsage, Scope.CONTAINER: ContainerUsage}


def captured() -> list[str]:
    """Small files of a real machine, where they are at hand."""
    paths = sorted(path for path in (SHARED / "data" / "kernel").rglob("*") if path.is_file())
    return [path.read_bytes().decode(errors="replace") for path in paths if 0 < path.stat().st_size < 8192]


DONORS = [*FILES.values(), *captured()]


def surroundings() -> Surroundings:
    """What the reporter tells its collectors on this machine."""
    host, patterns = machine(), {pattern for collector in COLLECTORS.values() for pattern in collector.lists}
    topology = NodeReader(host, clock=lambda: 0.0, node="n").topology()
    return Surroundings(numa=(0, 1), names=look_around(host, sorted(patterns)), caches=caches(topology))


AROUND = surroundings()
PARSERS = [
    (name, path, parse, collector.budget)
    for name, collector in COLLECTORS.items()
    for path, parse in collector.wants(AROUND)
]


def own(path: str) -> str | None:
    """A text that this file may have."""
    return (FILES | SPACES).get(path, FILES.get(f"{CONTAINERS[0]}/{path}"))


def outcome(parse: Callable[[str], Any], text: str) -> Any:
    """What comes of a text; None where it is refused in the way the report knows."""
    try:
        return parse(text)
    except (ValueError, IndexError):
        return None


# -- collectors: every file of every one -----------------------------------------------------------------------------


def test_every_collector_is_fuzzed_with_a_text_of_its_own() -> None:
    fed = {name for name, path, _, _ in PARSERS if own(path) is not None}
    assert set(COLLECTORS) == fed, "tests/laws/kernel_files.py has no text for these"


@pytest.mark.parametrize("turn", range(4))
def test_no_text_breaks_a_parser_and_every_number_told_is_in_the_text(turn: int) -> None:
    mangle = Mangler(turn, DONORS)
    for number in range(15_000 // TENTH):
        name, path, parse, budget = PARSERS[number % len(PARSERS)]
        text = mangle(own(path) or mangle.donor())
        if len(text) <= budget:
            told = set(numbers(outcome(parse, text))) - set(numbers(getattr(parse, "args", ()))) - {MACHINE}
            made_up = told and told - derivable(path, text)
            assert not made_up, f"{name} reads {made_up} in {path}, turn {turn}, {number}: {text[:300]!r}"


@pytest.mark.parametrize("turn", TURNS)
def test_what_is_no_number_of_the_kernels_is_as_good_as_none(turn: int) -> None:
    """Digits of other scripts, "1_0" and "+7" are numbers to Python only: they are read as a "?" would be."""
    mangle = Mangler(turn, DONORS)
    wrong = (mangle.foreign, lambda digits: f"{digits[:1]}_{digits[1:]}0", lambda digits: f"+{digits}")
    parsers = [parser for parser in PARSERS if ALONE.search(own(parser[1]) or "")]
    for number in range(5_000 // TENTH):
        name, path, parse, _ = parsers[number % len(parsers)]
        before, digits, after = mangle.number(own(path) or "", lambda digits: f"\1{digits}\1", ALONE).split("\1")
        odd = mangle.random.choice(wrong)(digits)
        told, none = outcome(parse, before + odd + after), outcome(parse, f"{before}?{after}")
        assert told == none, f"{name} takes {odd!r} in {path} for a number: {before + odd + after!r}"


@pytest.mark.parametrize("turn", TURNS)
def test_rates_of_any_two_readings_can_be_sent_and_are_unknown_or_not_negative(turn: int) -> None:
    mangle = Mangler(turn, DONORS)

    def reading(name: str) -> list[Any]:
        """With one of its files mangled."""
        wants = COLLECTORS[name].wants(AROUND)
        texts = [own(path) or mangle.donor() for path, _ in wants]
        chosen = mangle.random.randrange(len(texts))
        texts[chosen] = mangle(texts[chosen])
        return [outcome(parse, text) for (_, parse), text in zip(wants, texts, strict=True)]

    for number in range(2_000 // TENTH):
        name = sorted(COLLECTORS)[number % len(COLLECTORS)]
        collector, before, now = COLLECTORS[name], mangle.random.choice((None, reading(name))), reading(name)
        fields = collector.rate(before, now, mangle.random.choice((1e-3, 1.0, 7.3, 1e6)))
        assert all(math.isfinite(each) and each >= MACHINE for each in numbers(fields)), f"{name}, {turn}: {fields}"
        plain = {key: value for key, value in fields.items() if key in KINDS[collector.scope].__struct_fields__}
        assert msgspec.json.decode(msgspec.json.encode(plain)) is not None


# -- knobs: every file the enforcer reads back -----------------------------------------------------------------------


@pytest.mark.parametrize("turn", TURNS)
def test_no_text_breaks_a_knob(turn: int) -> None:
    mangle = Mangler(turn, DONORS)
    for number in range(7_500 // TENTH):
        name = sorted(KNOBS)[number % len(KNOBS)]
        clean = FILES.get(f"{CONTAINERS[0]}/{name}", "0\n")
        check_knob(KNOBS[name], clean, mangle(clean))


def check_knob(knob: Knob, clean: str, read: str) -> None:
    """Whatever is read back is understood or refused in the way the planner knows."""
    assert knob.same(clean, clean)
    knob.same(clean, read)
    for act in (knob.parse, knob.inverse, knob.pieces, lambda text: knob.keep(None, text, clean)):
        try:
            act(read)
        except InputError:
            continue


# -- topology: whole trees -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turn", TURNS)
def test_no_sysfs_breaks_the_topology_and_memory_and_distances_are_those_of_the_files(turn: int) -> None:
    mangle, clean = Mangler(turn, DONORS), read_snapshot(machine())
    paths, chance = sorted(clean.files), mangle.random
    for number in range(500 // TENTH):
        files = clean.files | {path: mangle(clean.files[path]) for path in chance.sample(paths, chance.randint(1, 20))}
        for path in chance.sample(paths, chance.randint(0, 3)):
            files.pop(path, None)
        links = {path: mangle(to) if chance.random() < 0.05 else to for path, to in clean.links.items()}
        check_topology(Snapshot(files=files, names=clean.names, links=links), f"turn {turn}, tree {number}")


def check_topology(seen: Snapshot, which: str) -> None:
    """What holds of every machine, whatever its files say."""
    told = build(seen, node="n", at=1.0, reserve=Reserve(), labels={})
    assert TOPOLOGY.decode(TOPOLOGY.encode(told)) == told, which
    usable = parse_cpuset(told.machine.cpus)
    assert usable <= set(range(CPUS)), which
    assert told.capacity["cpu"] == 1000 * len(usable), which
    for zone in zones(told.machine):
        assert parse_cpuset(zone.cpus) <= usable, f"{which}: {zone}"
    for node in told.numa:
        files = [seen.files.get(path, "") for path in (f"{NODE_DIR}/node{node.index}/meminfo", "/proc/meminfo")]
        assert node.memory in {0, *kib(files[0]), *kib(files[1])}, f"{which}: {node}"
        row = re.findall("[0-9]{1,19}", seen.files.get(f"{NODE_DIR}/node{node.index}/distance", ""))
        assert set(node.distances.values()) <= {10, *map(int, row)}, f"{which}: {node}"
    for device in told.devices:
        assert device.address in seen.names[PCI_DIR], f"{which}: {device}"
        assert device.numa in {-1, 0, 1}, f"{which}: {device}"


def zones(zone: Zone) -> Iterator[Zone]:
    """This one and all inside."""
    yield zone
    for child in zone.children:
        yield from zones(child)


@pytest.mark.parametrize("turn", TURNS)
def test_no_file_breaks_the_reader_of_nccl_topologies_and_devices_are_those_it_names(turn: int) -> None:
    mangle = Mangler(turn, DONORS)
    for number in range(3_000 // TENTH):
        text = mangle(NCCL)
        try:
            devices = read_nccl(text)
        except InputError:
            continue
        for device in devices:
            assert device.address in text.lower() or device.address in text, f"turn {turn}, {number}: {device}"
            assert str(device.numa) in text, f"turn {turn}, {number}: {device}"


# -- containers: names of cgroups ------------------------------------------------------------------------------------

NAMES = (
    "pod1a2b-3c4d", "burstable", "kubepods-burstable-pod1a2b_3c4d.slice", "cri-containerd-00ff.scope", "c1", "cpu.stat",
    "crio-conmon-00ff.scope", "kubepods-pod_.slice", "pod", "-pod.slice",
)  # fmt: skip


@pytest.mark.parametrize("turn", TURNS)
def test_no_name_of_a_cgroup_breaks_the_inventory_or_is_told_as_another_pod(turn: int) -> None:
    mangle = Mangler(turn, NAMES)

    def some() -> tuple[str, ...] | None:
        """A directory, or none."""
        return tuple(mangle(mangle.donor()) for _ in range(3)) if mangle.random.random() < 0.7 else None

    for _ in range(1_000 // TENTH):
        inventory = Inventory(5, (f"{ROOT}/kubepods", f"{ROOT}/kubepods.slice"))
        classes = inventory.classes()
        listed = [some() for _ in classes]
        inventory.fold_classes(classes, listed)
        due = inventory.due(1)
        inventory.fold_pods(1, due, [some() for _ in due])
        names = {name for found in listed for name in found or ()}
        for place in inventory.places():
            assert any(place.uid in name or place.uid in name.replace("_", "-") for name in names), place
            assert place.container, place
        assert all(len(pod.containers) <= CONTAINER_LIMIT for pod in inventory.pods.values())


# -- the whole reader ------------------------------------------------------------------------------------------------

MOVING = ("/proc/", "/sys/fs/", "/sys/class/", f"{NODE_DIR}/")


@pytest.mark.parametrize("turn", TURNS)
def test_a_whole_report_tells_what_the_files_say_or_nothing(turn: int) -> None:
    mangle, random, now, host = Mangler(turn, DONORS), Random(turn), 100.0, machine()
    settings = Settings(every=dict.fromkeys(COLLECTORS, 0.0), relist_every=1, devices_every=1)
    reader = NodeReader(host, clock=lambda: now, node="n", settings=settings)
    paths = sorted(path for path in FILES if path.startswith(MOVING))
    for number in range(300 // TENTH):
        texts = {path: mangle(FILES[path]) for path in random.sample(paths, random.randint(1, 20))}
        for path, text in texts.items():
            host.put(path, text)
        now += random.choice((0.5, 1.0, 3.0))
        usage, which = reader.sample(), f"turn {turn}, report {number}"
        assert NODE_USAGE.decode(NODE_USAGE.encode(usage)) == usage, which
        check_report(usage, {**FILES, **texts}, which)
        for path in texts:
            host.put(path, FILES[path])
    assert msgspec.json.encode(reader.topology())


def check_report(usage: NodeUsage, texts: Mapping[str, str], which: str) -> None:
    """Fields that are read at one moment, against the text of that moment."""
    for resource in ("cpu", "memory", "io"):
        text = texts[f"/proc/pressure/{resource}"]
        wrong = misread(getattr(usage, f"{resource}_stall"), text, both=resource != "cpu")
        assert wrong == [], f"{which}: {text!r}"
    text = texts["/proc/meminfo"]
    assert usage.memory_available in {None, *available(text)}, f"{which}: {usage.memory_available} of {text!r}"
    for one in usage.containers:
        at = f"{ROOT}/{one.cgroup}"
        current, stat = texts[f"{at}/memory.current"], texts[f"{at}/memory.stat"]
        sets = {max(0, size - part) for size in whole(current) for part in lines(stat, "inactive_file")}
        assert one.memory in {None, *whole(current)}, f"{which}: {one}"
        assert one.file_cache in {None, *lines(stat, "file")}, f"{which}: {one}"
        assert one.working_set in {None, *sets}, f"{which}: {one}"
        assert one.oom_kills in {None, *lines(texts[f"{at}/memory.events"], "oom_kill")}, f"{which}: {one}"
        assert one.cpuset in {None, "", texts[f"{at}/cpuset.cpus.effective"].strip()}, f"{which}: {one}"
        cpu, memory = texts[f"{at}/cpu.pressure"], texts[f"{at}/memory.pressure"]
        assert misread(one.cpu_stall, cpu, both=False) == [], f"{which}: {one.cgroup}: {cpu!r}"
        assert misread(one.memory_stall, memory) == [], f"{which}: {one.cgroup}: {memory!r}"
