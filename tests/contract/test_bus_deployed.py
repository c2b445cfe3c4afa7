"""The users of the bus as deploy/k8s gives them: each room with its own nkey over TLS can do its work and no neighbour's."""

from __future__ import annotations

import os
import secrets
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from neap.common.bus.nats import connect
from neap.common.bus.port import Bus
from neap.common.contract.catalogue import CHANNELS, STREAMS
from neap.common.contract.permissions import connection_name
from neap.common.kube.users import ROOMS
from neap.common.testing.natsd import NatsServer, find_server
from neap.gateway.core.keys.credentials import credentials
from neap.gateway.shell.keys import Pair
from tests.conftest import ROOT, SOON
from tests.contract.conftest import PATIENCE
from tests.contract.test_bus_permissions import allowed, hear, say, tokens

PLACE = ROOT / "deploy/k8s"


class Keys:
    """What the job in components/keys makes, as files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.variables: Mapping[str, str] = {}
        for one in credentials(Pair, serial=lambda: secrets.randbits(64) | 1, at=time.time()):
            if one.name == "neap-nats-users":
                self.variables = one.body["data"]
            for name, text in one.body.get("stringData", {}).items():
                path = folder / one.name / name
                path.parent.mkdir(exist_ok=True)
                path.write_text(text)

    def filled(self, text: str) -> str:
        for name, value in self.variables.items():
            text = text.replace(f"${name},", f'"{value}",')
        return text.replace("/etc/nats/tls", str(self.folder / "neap-nats-tls"))

    async def bus(self, server: NatsServer, room: str) -> Bus:
        tls = ssl.create_default_context(cafile=str(self.folder / "neap-nats-tls/ca.crt"))
        return await connect(
            f"tls://localhost:{server.port}",
            name=connection_name(room),
            nkey_seed=str(self.folder / f"neap-nkey-{room}/seed"),
            tls=tls,
            within=SOON,
            patience=PATIENCE,
        )


@asynccontextmanager
async def deployed(keys: Keys, store: str) -> AsyncIterator[NatsServer]:
    """A server with the users and the certificate of the manifests."""
    tls = "tls {\n cert_file: /etc/nats/tls/tls.crt\n key_file: /etc/nats/tls/tls.key\n timeout: 30\n}\n"
    config = keys.filled(tls + (PLACE / "base/nats/users.conf").read_text())
    async with NatsServer(config=config, store=store) as server:
        yield server


async def test_every_room_does_what_the_catalogue_says_and_nothing_else(tmp_path: Path, store: str) -> None:
    keys = Keys(tmp_path)
    async with deployed(keys, store) as server:
        gateway = await keys.bus(server, "gateway")
        await gateway.ensure(STREAMS, CHANNELS)
        for channel in CHANNELS:  # something to read everywhere
            for room in set(channel.says) & set(ROOMS):
                bus = await keys.bus(server, room)
                assert await allowed(say, bus, channel, tokens(channel, "n1", room)), f"{room} says {channel.pattern}"
                await bus.close()
                break
        for room in ROOMS:
            bus = await keys.bus(server, room)
            for channel in CHANNELS:
                mine = tokens(channel, "n1", room)
                assert await allowed(say, bus, channel, mine) == (room in channel.says), (
                    f"{room} says {channel.pattern}"
                )
                told = await allowed(hear, bus, channel, mine)
                assert told == (room in channel.hears), f"{room} hears {channel.pattern}"
            await bus.close()
        await gateway.close()


@pytest.mark.parametrize("cluster", ["base/nats/cluster.conf", "overlays/prod/cluster.conf"])
def test_the_server_takes_its_whole_configuration(tmp_path: Path, cluster: str) -> None:
    keys = Keys(tmp_path)
    for name in ("nats.conf", "users.conf"):
        text = (PLACE / "base/nats" / name).read_text().replace("/etc/nats/tls", str(tmp_path / "neap-nats-tls"))
        (tmp_path / name).write_text(text.replace("/data", str(tmp_path / "data")))
    (tmp_path / "cluster.conf").write_text(keys.filled((PLACE / cluster).read_text()))
    known = {**keys.variables, "POD_NAME": "neap-nats-0", "PATH": os.environ["PATH"]}
    asked = [find_server(), "-t", "-c", str(tmp_path / "nats.conf")]
    done = subprocess.run(asked, env=known, capture_output=True, text=True, timeout=SOON, check=False)
    assert done.returncode == 0, done.stderr
