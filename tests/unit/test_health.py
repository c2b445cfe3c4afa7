"""The health port says what is wrong in words, and its own troubles by name."""

from __future__ import annotations

import socket
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from neap.common.errors import SettingsError
from neap.common.runtime.health import NO_PORT, Probes, serve_health
from tests.conftest import SOON


@dataclass
class State:
    dead: list[str] = field(default_factory=list)
    unready: list[str] = field(default_factory=list)

    @property
    def probes(self) -> Probes:
        return Probes(lambda: self.dead, lambda: self.unready, lambda: b"neap_x_y_total 1.0\n")


async def get(port: int, path: str) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as answer:
        return answer.status, await answer.json() if "json" in answer.content_type else await answer.text()


async def test_a_sound_process_answers_yes() -> None:
    async with serve_health("127.0.0.1", 0, State().probes) as port:
        assert await get(port, "/healthz") == (200, {"ok": True, "wrong": []})
        assert await get(port, "/readyz") == (200, {"ok": True, "wrong": []})
        assert await get(port, "/metrics") == (200, "neap_x_y_total 1.0\n")


async def test_what_is_wrong_is_said_and_unready_is_not_dead() -> None:
    state = State()
    async with serve_health("127.0.0.1", 0, state.probes) as port:
        state.unready.append("NATS is not reachable")
        assert await get(port, "/readyz") == (503, {"ok": False, "wrong": ["NATS is not reachable"]})
        assert (await get(port, "/healthz"))[0] == 200
        state.dead.append("advisor on n1 has been handling one event for 31 s")
        assert (await get(port, "/healthz"))[1]["wrong"] == state.dead


async def test_a_taken_port_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            SettingsError, match=rf"health port {port} on 127\.0\.0\.1: is taken \(process\.health_port"
        ):
            async with serve_health("127.0.0.1", port, State().probes):
                pass


async def test_an_address_of_somebody_else_is_named() -> None:
    with pytest.raises(SettingsError, match=r"health port 0 on 192\.0\.2\.1: Cannot assign"):
        async with serve_health("192.0.2.1", 0, State().probes):
            pass


async def test_the_port_is_free_again_afterwards() -> None:
    with socket.socket() as held:  # bound, so that nobody else takes it in between, and shared with who asks for it
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        for _ in range(2):
            async with serve_health("127.0.0.1", port, State().probes) as again:
                assert again == port


def test_without_a_port_aiohttp_is_not_imported() -> None:
    code = (
        "import asyncio, sys\n"
        "from neap.common.runtime.health import serve_health\n"
        "async def go():\n"
        "    async with serve_health('127.0.0.1', -1, None) as port: assert port == -1\n"
        "asyncio.run(go())\n"
        "assert 'aiohttp' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=SOON)
    assert NO_PORT == -1
