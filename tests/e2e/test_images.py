"""The images by themselves: what stands in for NATS does what the stack asks of NATS; a room says what it lacks."""

from __future__ import annotations

import asyncio
import json

import pytest
from aiohttp import ClientSession

from neap.common.bus.nats import connect
from neap.common.contract.catalogue import CHANNELS, STREAMS, TRAIL
from neap.common.model.trail import ObjectRef, TrailEntry
from tests.conftest import ROOT
from tests.e2e.engine import CommandFailed, Engine
from tests.e2e.images import mirror_arguments
from tests.e2e.stack import UNPRIVILEGED, Stack

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]  # the first one makes the images


async def test_the_image_of_nats_keeps_streams_tells_its_health_and_ends_on_sigterm(
    engine: Engine, nats_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TESTCONTAINERS_RYUK_DISABLED", "true")  # its reaper is an image of its own
    from testcontainers.core.container import DockerContainer

    image = DockerContainer(nats_image, user=str(UNPRIVILEGED)).with_command("-js -sd /tmp/store -m 8222")
    with image.with_exposed_ports(4222, 8222) as nats:
        client, monitor = (f"{nats.get_container_host_ip()}:{nats.get_exposed_port(port)}" for port in (4222, 8222))
        bus = await connect(f"nats://{client}", name="neap-console")
        await bus.ensure(STREAMS, CHANNELS)
        about = ObjectRef(namespace="e2e", name="pod", uid="u1")
        entry = TrailEntry(at=1.0, source="console", id="u1.1.submitted", about=about, what="submitted", why="a test")
        for again in (False, True):
            stored = await bus.emit(TRAIL.at(namespace="e2e", name="pod"), entry, id=entry.id)
            assert stored.duplicate is again
        async with ClientSession() as session, session.get(f"http://{monitor}/healthz") as answer:
            assert await answer.json() == {"status": "ok"}
        await bus.close()
        ended = nats.get_wrapped_container()
        await asyncio.to_thread(ended.stop, timeout=10)
        assert ended.wait()["StatusCode"] == 0


def test_a_room_refuses_a_setting_that_does_not_hold_and_names_it(engine: Engine, built: Stack) -> None:
    with pytest.raises(CommandFailed, match=r"exit status 2(?s:.*)NEAP_ADVISOR__PERIOD.*soon"):
        engine.docker("run", "--rm", "--env", "NEAP_ADVISOR__PERIOD=soon", "neap-advisor:local")


def test_the_gateway_has_an_image_too_for_the_manifests(engine: Engine, built: Stack, base_image: str) -> None:
    """It is in no compose file, for there is no Kubernetes."""
    arguments = ("--build-arg", f"BASE_IMAGE={base_image}", "--build-arg", "SERVICE=gateway", *mirror_arguments())
    also = {"DOCKER_BUILDKIT": "0"}
    engine.run(
        "docker",
        "build",
        "--network",
        "host",
        "--tag",
        "neap-gateway:local",
        *arguments,
        str(ROOT),
        within=600,
        also=also,
    )
    with pytest.raises(CommandFailed, match=r"exit status 2(?s:.*)NEAP_GATEWAY__BEAT.*soon"):
        engine.docker("run", "--rm", "--env", "NEAP_GATEWAY__BEAT=soon", "neap-gateway:local")


def test_images_share_the_layers_below_the_room(engine: Engine, built: Stack) -> None:
    layers = [
        json.loads(engine.docker("image", "inspect", "--format", "{{json .RootFS.Layers}}", f"neap-{room}:local"))
        for room in ("reporter", "scheduler", "console")
    ]
    own = {tuple(found[:-1]) for found in layers}
    assert len(own) == 1, "only the last layer is the room's own"
