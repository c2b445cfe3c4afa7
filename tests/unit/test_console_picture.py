"""The picture of a machine: everything that is there, once, and nothing else."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import pytest

from neap.common.cpuset import parse_cpuset
from neap.common.errors import InputError
from neap.common.host.memory import MemoryHost
from neap.common.model.topology import NodeTopology, Zone, ZoneKind
from neap.console.core.picture import GIVEN, KEPT, STRIPES, draw_machine
from neap.console.shell.here import show_node
from neap.reporter.reader import NodeReader
from neap.virtual.snapshot import load_snapshot

MACHINES = sorted((Path(__file__).resolve().parents[2] / "examples/machines").glob("*.tar.*"))
SVG = "{http://www.w3.org/2000/svg}"


def topology_of(archive: Path) -> NodeTopology:
    host = MemoryHost(shared=load_snapshot(archive).tree)
    return NodeReader(host, clock=lambda: 0.0, node="here").topology()


def numbers(picture: str) -> Counter[int]:
    texts = (element.text or "" for element in ET.fromstring(picture).iter(f"{SVG}text"))
    return Counter(int(text) for text in texts if text.isdigit())


@pytest.mark.parametrize("archive", MACHINES, ids=lambda path: path.name.partition(".tar")[0])
def test_every_usable_cpu_is_drawn_once(archive: Path) -> None:
    topology = topology_of(archive)
    assert numbers(draw_machine(topology)) == Counter(parse_cpuset(topology.machine.cpus))


def test_cpus_that_pods_do_not_get_look_different() -> None:
    [server] = [path for path in MACHINES if "pmem" in path.name]
    topology = topology_of(server)
    picture = draw_machine(topology)
    cells = [element for element in ET.fromstring(picture).iter(f"{SVG}rect") if element.get("height") == "20.0"]
    fills = Counter(cell.get("fill") for cell in cells)
    isolated = len(parse_cpuset(topology.machine.attributes["isolated"]))
    kept = len(parse_cpuset(topology.system_cpus)) - isolated
    assert (fills[STRIPES], fills[KEPT], fills[GIVEN]) == (isolated, kept, 112 - isolated - kept)


def test_names_and_warnings_from_sysfs_cannot_break_the_picture() -> None:
    zone = Zone(kind=ZoneKind.GPU, index=0, attributes={"maker": "<&>", "pci": '"0000:3b:00.0"'})
    machine = Zone(kind=ZoneKind.MACHINE, index=0, children=(zone,))
    topology = NodeTopology(at=0.0, source="reporter", node="n1", machine=machine, numa=(), warnings=("a < b & c",))
    texts = [element.text for element in ET.fromstring(draw_machine(topology)).iter(f"{SVG}text")]
    assert "! a < b & c" in texts
    assert any("<&>" in (text or "") for text in texts)


def test_a_machine_of_which_nothing_is_known_is_a_picture_too() -> None:
    bare = NodeTopology(at=0.0, source="reporter", node="n1", machine=Zone(kind=ZoneKind.MACHINE, index=0), numa=())
    assert "no zones" in draw_machine(bare)


def test_an_archive_of_a_machine_stands_for_it() -> None:
    [server] = [path for path in MACHINES if "pmem" in path.name]
    assert "56 cores" in asyncio.run(show_node(server, output="tree"))
    shown = msgspec.json.decode(asyncio.run(show_node(server, output="json")), type=dict[str, msgspec.Raw])
    assert msgspec.json.decode(shown["topology"], type=NodeTopology).numa[4].cpus == ""


def test_what_cannot_be_shown_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="choose one of text, tree, svg, json"):
        asyncio.run(show_node(tmp_path, output="xml"))
    with pytest.raises(InputError, match="no such directory or archive"):
        asyncio.run(show_node(tmp_path / "nowhere", output="tree"))
    (tmp_path / "junk.tar.xz").write_bytes(b"junk")
    with pytest.raises(InputError, match="machine snapshot junk"):
        asyncio.run(show_node(tmp_path / "junk.tar.xz", output="tree"))
