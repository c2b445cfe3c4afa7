"""A process finds its rooms by name, and says what does not hold before it does anything."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog

from neap.common.bus.alone import Alone
from neap.common.contract.catalogue import ADVICE, PLACEMENTS, POLICY
from neap.common.errors import SettingsError
from neap.common.runtime.launch import Process, build_services, find_room, make_clock, open_hosts, said_here, unless
from neap.common.runtime.main import UNSETTLED, run
from neap.common.runtime.service import Outside, Service
from neap.common.runtime.settings import ProcessSettings

WIRING = """
import msgspec
from neap.common.runtime.service import Service

class Settings(msgspec.Struct, frozen=True, kw_only=True):
    {fields}

class Quiet:
    def handle(self, event): return ()
    def validate(self): pass

SETTINGS = Settings

def wire(settings, outside):
    return Service("{name}", getattr(settings, "node", ""), machine=Quiet(), routes=())
"""
MakeRoom = Callable[[str, str], None]


@pytest.fixture
def make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeRoom:
    """Installs neap.<name> for one test: what is installed is found, whoever wrote it."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(name: str, fields: str) -> None:
        folder = tmp_path / "neap" / name
        folder.mkdir(parents=True)
        (folder / "__init__.py").touch()
        (folder / "wiring.py").write_text(WIRING.format(name=name, fields=fields))

    return make


@pytest.fixture(autouse=True)
def _restore_logs() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def nothing(_name: str, node: str) -> Outside:
    hosts: Any = open_hosts("/", ["n1", "n2"])
    return Outside(bus=None, clock=make_clock(""), host=hosts[node], tracer=None)  # type: ignore[arg-type]


def test_a_node_service_is_built_once_per_node_and_a_central_one_once(make_room: MakeRoom) -> None:
    make_room("aroom", "node: str = ''\n    period: float = 1.0")
    make_room("broom", "period: float = 1.0")
    rooms = [find_room("aroom"), find_room("broom")]
    settings = {room.name: room.settings() for room in rooms}
    built = build_services(rooms, settings, nothing, nodes=["n1", "n2"])
    assert [(service.name, service.node) for service, _ in built] == [("aroom", "n1"), ("aroom", "n2"), ("broom", "")]


def test_the_settings_of_a_node_name_it(make_room: MakeRoom) -> None:
    make_room("croom", "node: str = ''\n    period: float = 1.0")
    seen: list[msgspec.Struct] = []
    room = find_room("croom")

    def spying(settings: msgspec.Struct, outside: Outside) -> Service:
        seen.append(settings)
        return room.wire(settings, outside)

    watched = replace(room, wire=spying)
    build_services([watched], {"croom": room.settings(period=3.0)}, nothing, nodes=["n1"])
    assert seen == [room.settings(node="n1", period=3.0)]


def test_rooms_of_a_node_that_hear_each_other_are_an_agent_and_others_are_not() -> None:
    def is_agent(*names: str) -> bool:
        return Process(tuple(map(find_room, names)), ProcessSettings()).is_agent

    assert is_agent("reporter", "advisor", "enforcer", "evictor")
    assert not is_agent("advisor"), "nobody here to hear it"
    assert not is_agent("advisor", "scheduler"), "a cluster's room needs the cluster"


def test_only_what_rooms_of_here_say_of_nodes_of_here_is_said_here() -> None:
    said = said_here({"advisor", "enforcer"}, {"n1"})
    assert said(ADVICE.only(node="n1"))
    assert not said(ADVICE.only(node="n2"))
    assert not said(ADVICE.only())
    assert not said(PLACEMENTS.only(node="n1"))
    assert not said(POLICY.only(room="advisor"))


def test_an_agent_says_how_long_it_has_been_alone_and_what_follows() -> None:
    clock = Standing()
    process = Process((find_room("advisor"), find_room("enforcer")), ProcessSettings(alone=Alone(most=600.0)))
    process.go_local(clock, ("n1",))
    for passed, told in ((90.0, "alone for 1m30s, advice lapses after 10m"), (600.0, "advice lapses: more than 10m")):
        clock.seconds += passed
        assert told in process.away()[0]
    numbers = process.metrics.read()
    assert numbers["neap_bus_alone_seconds"] == {(): 690.0}
    assert numbers["neap_bus_dropped_total"] == {("too many",): 0.0, ("too old",): 0.0}


@dataclass
class Standing:
    """A clock that stands until it is moved."""

    seconds: float = 0.0
    speed: float = 1.0

    def now(self) -> float:
        return self.seconds

    async def sleep_until(self, at: float) -> None:
        raise AssertionError(f"nobody waits until {at}")


@pytest.mark.parametrize("name", ["nosuchroom", "common", "os.path", ""])
def test_a_room_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(SettingsError, match="no service named"):
        find_room(name)


def test_an_accelerated_clock_is_shared_by_its_spec() -> None:
    spec = "epoch=1000,origin=0,speed=960"
    first, second = make_clock(spec), make_clock(spec)
    before, between, after = first.now(), second.now(), first.now()
    skew = 0.1 * first.speed  # of two looks at the wall, however long a process is put aside between them
    assert first.speed == 960
    assert before - skew < between < after + skew


@pytest.mark.parametrize(
    "spec",
    ["fast", "epoch=1,origin=0", "epoch=1,origin=0,speed=0", "epoch=x,origin=0,speed=1", "speed=nan,epoch=0,origin=0"],
)
def test_a_clock_that_does_not_hold_is_named(spec: str) -> None:
    with pytest.raises(SettingsError, match=r"process\.clock = .*speed=FACTOR"):
        make_clock(spec)


async def test_work_ends_first_or_is_cancelled_by_stop() -> None:
    stop, forever = asyncio.Event(), asyncio.Event()
    assert await unless(stop, asyncio.sleep(0)) is True
    asyncio.get_running_loop().call_soon(stop.set)
    assert await unless(stop, forever.wait()) is False
    with pytest.raises(ZeroDivisionError):
        await unless(asyncio.Event(), divide())


async def divide() -> float:
    return 1 / 0


@pytest.mark.parametrize(
    ("argv", "environment", "told"),
    [
        (["--set", "process.helth_port=1"], {}, "'process.helth_port' of process; did you mean 'health_port'"),
        (["--set", "process.health_port=99999"], {}, "health_port = '99999'"),
        (["--set", "health_port=1"], {}, "--set health_port: write section.key=value"),
        (["--set", "advisr.period=1"], {}, "unknown section 'advisr'; did you mean 'advisor'"),
        (["--config", "absent.toml"], {}, "absent.toml: cannot be read"),
        ([], {"NEAP_CONFIG": "absent.toml"}, "absent.toml: cannot be read"),
        ([], {"NEAP_PROCESS__CLOCK": "fast"}, "process.clock = 'fast'"),
        ([], {"NEAP_PROCESS__NODES": "n1,bad_name"}, "process.nodes: 'bad_name'"),
        ([], {"NEAP_PROCESS__HOST": "relative"}, "host='relative'"),
        ([], {"NEAP_PROCESS__JOURNAL": "/nowhere/x.jsonl"}, "process.journal = '/nowhere/x.jsonl': cannot be written"),
    ],
)
def test_a_setting_that_does_not_hold_ends_the_process_with_a_sentence(
    make_room: MakeRoom,
    capsys: pytest.CaptureFixture[str],
    argv: list[str],
    environment: dict[str, str],
    told: str,
) -> None:
    make_room(f"room{os.getpid()}", "node: str = ''")
    assert run([f"room{os.getpid()}"], argv, environment) == UNSETTLED
    said = capsys.readouterr().err
    assert told in said
    assert "Traceback" not in said


def test_a_service_nobody_installed_ends_the_process_with_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["nosuchroom"], [], {}) == UNSETTLED
    assert "neap-nosuchroom: no service named 'nosuchroom' is installed here" in capsys.readouterr().err


def test_a_taken_health_port_ends_the_process_with_a_sentence(
    make_room: MakeRoom, capsys: pytest.CaptureFixture[str]
) -> None:
    make_room("droom", "node: str = ''")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert run(["droom"], ["--set", f"process.health_port={port}"], {}) == UNSETTLED
    assert f"health port {port} on 127.0.0.1: is taken" in capsys.readouterr().err
    assert gc.isenabled()
