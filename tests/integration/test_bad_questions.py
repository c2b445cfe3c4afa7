"""What a person types wrongly: exit status 2, one line that names what and where, and nothing begun or left running."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from neap.common.bus.nats import connect
from neap.common.bus.port import CaughtUp
from neap.common.contract.catalogue import CHANNELS, STREAMS, WORKLOAD
from neap.common.testing.natsd import NatsServer
from neap.console import cli
from tests.conftest import SOON

GOOD = """
apiVersion: v1
kind: Pod
metadata: {name: good, namespace: shop}
spec: {containers: [{name: main, resources: {requests: {cpu: 100m}}}]}
---
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {namespace}, annotations: {annotations}}}
spec: {{containers: [{{name: main, resources: {{requests: {requests}}}}}]}}
"""


def pod(requests: str = "{}", *, name: str = "bad", namespace: str = "shop", annotations: str = "{}") -> str:
    return POD.format(requests=requests, name=name, namespace=namespace, annotations=annotations)


WHERE = "document 2: pod shop/bad"
BAD = {
    "an unknown class": (pod(annotations="{neap.io/qos-level: golden}"), f"{WHERE}: neap.io/qos-level='golden'"),
    "a negative request": (pod('{cpu: "-1"}'), f"{WHERE}, container main: cpu=-1 is negative"),
    "a huge request": (pod("{memory: 9000P}"), f"{WHERE}, container main: memory=9000P is beyond"),
    "half a percent of a card": (pod('{neap.io/gpu-core: "0.5"}'), "container main: neap.io/gpu-core=0.5 is finer"),
    "a slice without memory": (pod("{neap.io/gpu-core: 50}"), f"{WHERE}: container main: neap.io/gpu-core=50 needs"),
    "no quantity": (pod("{cpu: lots}"), f"{WHERE}, container main: cpu: not a quantity: 'lots'"),
    "infinity": (pod("{cpu: .inf}"), f"{WHERE}, container main: cpu: not a quantity: 'inf'"),
    "an illegal name": (pod(name="Bad_Pod"), "pod shop/Bad_Pod: metadata.name 'Bad_Pod' is not legal"),
    "an illegal namespace": (pod(namespace='"no such"'), "metadata.namespace 'no such' is not legal"),
    "a wildcard": (pod(name='"*"'), "metadata.name '*' is not legal"),
    "a name too long": (pod(name="a" * 129), "metadata.name 'aaa"),
    "a number for a name": (pod(name="7"), "document 2: Pod.metadata.name: Expected `str`, got `int`, found 7"),
    "no containers": ("{kind: Pod, metadata: {name: bad}, spec: {}}", "missing required field `containers`"),
    "no kind": ("{metadata: {name: bad}}", "document 2: not a Kubernetes object (no `kind`)"),
    "less than no replicas": (
        "{kind: Deployment, metadata: {name: bad}, spec: {replicas: -1, template: {spec: {containers: []}}}}",
        "document 2: Deployment 'bad' asks for -1 replicas",
    ),
    "nested": ("[" * 5_000, "nested too deeply"),
    "no YAML": ("{a: [}", "not YAML: "),
}


Ask = Callable[..., tuple[int, str]]


@pytest.fixture
def _logs() -> Iterator[None]:
    """A process that starts sets up its logs, and these are all one process."""
    root, ours = logging.getLogger(), logging.getLogger("neap")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    yield
    root.handlers[:], (root.level, ours.level) = handlers, levels
    structlog.reset_defaults()


@pytest.fixture
def ask(_logs: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ask:
    """`neap ...` in this process: its exit status, and its last line on stderr."""

    def ask(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["neap", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        lines = capsys.readouterr().err.splitlines()
        return int(ended.value.code or 0), lines[-1] if lines else ""

    return ask


@pytest.mark.parametrize("what", BAD)
def test_a_manifest_with_one_bad_pod_is_refused_before_anybody_is_asked(what: str, ask: Ask, tmp_path: Path) -> None:
    text, told = BAD[what]
    file = tmp_path / "pods.yaml"
    file.write_text(GOOD + text)
    status, line = ask("submit", str(file), "--nats", "nats://127.0.0.1:1")  # nobody is there: being asked is status 1
    assert (status, line[: len(f"neap: {file}")]) == (2, f"neap: {file}")
    assert told in line
    assert len(line) < 400


def test_a_manifest_that_is_no_text_or_no_file_is_named(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name, why in (("binary", "not text"), ("missing", "cannot be read: No such file"), (".", "Is a directory")):
        status, line = ask("submit", str(tmp_path / name), "--nats", "nats://127.0.0.1:1")
        assert (status, why in line, str(tmp_path) in line) == (2, True, True), line


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    """A server beside the loops that come and go in these tests."""
    server = NatsServer(store=tmp_path / "nats")
    asyncio.run(server.start())
    yield server
    asyncio.run(server.__aexit__(None, None, None))


def test_of_a_manifest_with_a_bad_pod_nothing_is_submitted(ask: Ask, tmp_path: Path, server: NatsServer) -> None:
    file = tmp_path / "pods.yaml"
    file.write_text(GOOD + pod(name="Bad_Pod"))
    status, _ = ask("submit", str(file), "--nats", server.url)

    async def stored() -> object:
        bus = await connect(server.url, name="test")
        await bus.ensure(STREAMS, CHANNELS)
        async with bus.follow(WORKLOAD.only()) as events, asyncio.timeout(SOON):
            first = await anext(events)
        await bus.close()
        return first

    assert (status, asyncio.run(stored())) == (2, CaughtUp(0))


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield int(holder.getsockname()[1])


def left_running(folder: Path) -> list[str]:
    """Processes that were told of this folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if int(process.name) != os.getpid() and any(str(folder) in word for word in words):
            found.append(" ".join(words))
    return found


def test_a_taken_port_an_unwritable_folder_and_a_bad_day_end_neap_up_before_it_begins(
    ask: Ask, tmp_path: Path, taken: int
) -> None:
    (tmp_path / "file").write_text("here is no room")
    (tmp_path / "day.toml").write_text('name = "d"\n[[owner]]\nname = "cart"\nreplicas = "many"\n')
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "nats").symlink_to(tmp_path / "file")
    out = ("--out", str(tmp_path / "out"))
    for words, told in (
        (("--port", str(taken), *out), f"NATS port 127.0.0.1:{taken} cannot be used: Address already in use"),
        (("--out", str(tmp_path / "file" / "out")), f"{tmp_path / 'file' / 'out'}: cannot be written: Not a directory"),
        (("--out", str(tmp_path / "store")), f"NATS store {tmp_path / 'store' / 'nats'} cannot be written: "),
        (("--day", str(tmp_path / "none.toml"), *out), f"{tmp_path / 'none.toml'}: cannot be read: No such file"),
        (("--day", str(tmp_path / "day.toml"), *out), f"{tmp_path / 'day.toml'}: "),
        (("--day", str(tmp_path / "day.toml"), "--in-process", *out), f"{tmp_path / 'day.toml'}: "),
    ):
        status, line = ask("up", "--nodes", "2", *words)
        assert (status, line.startswith(f"neap: {told}")) == (2, True), line
    assert left_running(tmp_path) == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("agent", "--set", "nothing"), "--set nothing: write section.key=value"),
        (("agent", "--set", "advisor.perod=5s"), "advisor.perod: unknown setting 'advisor.perod'"),
        (("agent", "--set", "advisor.period=-5s"), "advisor.period"),
        (("agent", "--set", "process.clock=soon"), "process.clock = 'soon'"),
        (("agent", "--rooms", "advisor,none"), "no service named 'none'"),
        (("sim", "--day", "/nowhere/day.toml", "--nodes", "2"), "/nowhere/day.toml: cannot be read"),
        (("why", "pod", "cart-1"), "'cart-1': write NAMESPACE/NAME"),
        (("node", "--root", "/nowhere"), "--root /nowhere: no such directory"),
        (("config", "explain", "none"), "no service named 'none'"),
    ],
)
def test_a_setting_or_a_question_that_does_not_hold_is_named(words: tuple[str, ...], told: str, ask: Ask) -> None:
    status, line = ask(*words)
    assert (status, told in line) == (2, True), line


def test_a_process_whose_health_port_is_taken_says_which(ask: Ask, taken: int) -> None:
    status, line = ask("agent", "--rooms", "advisor", "--set", f"process.health_port={taken}")
    assert (status, f"health port {taken} on 127.0.0.1: is taken" in line) == (2, True), line


def test_virtual_nodes_without_a_day_say_which_file(ask: Ask, server: NatsServer) -> None:
    settings = ("--set", f"process.nats_url={server.url}", "--set", "virtual.file=/nowhere/day.toml")
    status, line = ask("agent", "--rooms", "virtual", *settings)
    assert (status, "virtual: /nowhere/day.toml: cannot be read" in line) == (2, True), line
