"""The gateway's web server: its routes, its limits, its certificates, and that it starts and stops with its service."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import os
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from neap.common.errors import SettingsError, Unavailable
from neap.common.model.workload import Workload
from neap.gateway.core.door.admission import AdmissionSettings
from neap.gateway.core.door.extender import NodeVerdict, Verdicts
from neap.gateway.core.door.metrics_api import answer
from neap.gateway.core.door.metrics_store import MetricSettings, MetricStore
from neap.gateway.core.door.reply import Answered, Opened, Reply
from neap.gateway.settings import DoorSettings
from neap.gateway.shell.web import Answers, Weigh, door
from tests.conftest import SOON, missing
from tests.unit.test_gateway_admission import RECLAIMED, a_container, a_pod, a_review

LOCAL = DoorSettings(bind="127.0.0.1", port=0)
GUEST = a_pod(a_container(requests={"cpu": "1"}), annotations=RECLAIMED)


def answers(*, weigh: Weigh | None = None, wrong: tuple[str, ...] = ()) -> Answers:
    store = MetricStore(MetricSettings())

    def metrics(path: str, query: Mapping[str, str], accept: str) -> Reply:
        return answer(path, query, store, 0.0, accept)

    return Answers(admission=AdmissionSettings(), metrics=metrics, healthy=lambda: list(wrong), weigh=weigh)


@asynccontextmanager
async def served(settings: DoorSettings, what: Answers) -> AsyncIterator[tuple[int, AsyncIterator[Any]]]:
    async with asyncio.timeout(SOON), door(settings, what)() as said:
        opened = await anext(said)
        assert isinstance(opened, Opened)
        yield opened.port, said


async def post(url: str, body: bytes, **more: Any) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as client, client.post(url, data=io.BytesIO(body), **more) as response:
        text = await response.read()
        return response.status, json.loads(text) if response.content_type == "application/json" else text


async def get(url: str, **more: Any) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as client, client.get(url, **more) as response:
        return response.status, json.loads(await response.read())


async def test_reviews_are_answered_and_told() -> None:
    async with served(LOCAL, answers()) as (port, said):
        url = f"http://127.0.0.1:{port}"
        code, review = await post(f"{url}/mutate", a_review(GUEST))
        assert (code, review["response"]["allowed"], "patch" in review["response"]) == (200, True, True)
        assert await anext(said) == Answered("mutate", "changed", "shop/cart-1")
        await post(f"{url}/mutate", a_review(GUEST, dryRun=True))  # told to nobody
        code, review = await post(f"{url}/validate", a_review(GUEST))
        assert (code, review["response"]["allowed"]) == (200, False)
        told = await anext(said)
        assert (told.door, told.outcome) == ("validate", "denied")
        assert "needs Kubernetes QoS BestEffort" in told.about
        code, review = await post(f"{url}/mutate", b"\xff junk")
        assert (code, review["response"]["allowed"]) == (200, True)
        assert (await anext(said)).outcome == "unread"


async def test_a_body_beyond_the_limit_is_refused_unread_also_when_it_is_packed() -> None:
    async with served(LOCAL, answers()) as (port, _):
        url = f"http://127.0.0.1:{port}/mutate"
        assert (await post(url, a_review(a_pod(annotations={"a": "x" * (1 << 20)}))))[0] == 200
        assert (await post(url, b" " * (9 << 20)))[0] == 413
        packed = gzip.compress(b" " * (64 << 20))
        assert (await post(url, packed, headers={"Content-Encoding": "gzip"}))[0] in (400, 413)
        assert (await post(url, a_review(GUEST)))[0] == 200


async def test_a_client_that_does_not_finish_its_question_is_sent_away() -> None:
    async with served(DoorSettings(bind="127.0.0.1", port=0, deadline=0.2), answers()) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /mutate HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
        answer = await reader.read(64)
        assert answer.startswith(b"HTTP/1.1 408")
        writer.transport.abort()


async def test_metrics_health_and_what_is_not_served() -> None:
    async with served(LOCAL, answers(wrong=("the API server is away",))) as (port, _):
        url = f"http://127.0.0.1:{port}"
        assert (await get(f"{url}/apis/custom.metrics.k8s.io/v1beta2"))[1]["kind"] == "APIResourceList"
        code, status = await get(f"{url}/apis/external.metrics.k8s.io/v1beta1/namespaces/a/x?labelSelector=b%3Dc")
        assert (code, status["reason"]) == (404, "NotFound")
        assert await get(f"{url}/healthz") == (503, {"ok": False, "wrong": ["the API server is away"]})
        assert (await post(f"{url}/filter", b"{}"))[0] == 404
        assert (await post(f"{url}/apis", b"{}"))[0] == 405


async def test_the_extender_asks_the_scheduler_and_does_not_wait_for_ever() -> None:
    never = asyncio.Event()

    async def weigh(workload: Workload, nodes: tuple[str, ...]) -> Verdicts:
        if workload.name == "slow":
            await never.wait()
        if workload.name == "lost":
            raise Unavailable("the scheduler is away")
        return {name: NodeVerdict(why="full" if name == "n2" else "", score=50.0) for name in nodes}

    def question(name: str) -> bytes:
        pod = a_pod(annotations=RECLAIMED)
        return json.dumps(
            {"Pod": pod | {"metadata": {**pod["metadata"], "name": name}}, "NodeNames": ["n1", "n2"]}
        ).encode()

    settings = DoorSettings(bind="127.0.0.1", port=0, deadline=0.2)
    async with served(settings, answers(weigh=weigh)) as (port, said):
        url = f"http://127.0.0.1:{port}"
        assert (await post(f"{url}/filter", question("quick")))[1]["FailedNodes"] == {"n2": "full"}
        assert (await anext(said)).outcome == "filtered"
        assert (await post(f"{url}/prioritize", question("quick")))[1] == [
            {"Host": "n1", "Score": 10},
            {"Host": "n2", "Score": 0},
        ]
        assert (await anext(said)).outcome == "scored"
        for name, why in (("slow", "no verdicts within 0.2 s"), ("lost", "no verdicts: the scheduler is away")):
            assert (await post(f"{url}/filter", question(name)))[1]["NodeNames"] == ["n1", "n2"], name
            assert await anext(said) == Answered("filter", "passed", about=why)


async def test_nobody_listens_any_more_once_the_service_stops_and_a_taken_port_is_named() -> None:
    async with served(LOCAL, answers()) as (port, _):
        with pytest.raises(SettingsError, match=f"door.port = {port} on 127.0.0.1: Address already in use"):
            async with served(DoorSettings(bind="127.0.0.1", port=port), answers()):
                pass
    with pytest.raises(OSError, match=str(port)):
        await asyncio.open_connection("127.0.0.1", port)


def certificate(folder: Path, name: str, *, issuer: str = "") -> tuple[Path, Path]:
    """A new certificate for 127.0.0.1 and a service, and its key, of its own or of an issuer's signing."""
    openssl = shutil.which("openssl")
    if openssl is None:
        missing("openssl")
    key, made = folder / f"{name}.key", folder / f"{name}.crt"
    signed = ["-CA", str(folder / f"{issuer}.crt"), "-CAkey", str(folder / f"{issuer}.key")] if issuer else []
    subprocess.run(
        [str(openssl), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:gateway.neap.svc", "-keyout", str(key),
         "-out", str(made), *signed],
        check=True, capture_output=True,
    )  # fmt: skip
    return made, key


async def seen_by(port: int, trusted: Path, *, name: str | None = None) -> int:
    trust = ssl.create_default_context(cafile=str(trusted))
    async with aiohttp.ClientSession() as client:
        url = f"https://{name or '127.0.0.1'}:{port}/healthz"
        async with client.get(url, ssl=trust) as response:
            return response.status


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])  # without and with a server name in the greeting
async def test_a_renewed_certificate_is_in_use_at_once_and_a_broken_one_never(tmp_path: Path, name: str) -> None:
    first, key = certificate(tmp_path, "first")
    second, newer = certificate(tmp_path, "second")
    used, used_key = tmp_path / "tls.crt", tmp_path / "tls.key"
    used.write_bytes(first.read_bytes())
    used_key.write_bytes(key.read_bytes())
    settings = DoorSettings(bind="127.0.0.1", port=0, certificate=str(used), key=str(used_key))
    async with served(settings, answers()) as (port, _):
        assert await seen_by(port, first, name=name) == 200
        used.write_text("half of a certif")
        os.utime(used, ns=(1, 1))
        assert await seen_by(port, first, name=name) == 200
        used.write_bytes(second.read_bytes())
        used_key.write_bytes(newer.read_bytes())
        os.utime(used, ns=(2, 2))
        assert await seen_by(port, second, name=name) == 200
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await seen_by(port, first, name=name)


async def test_certificates_that_are_not_there_stop_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="nowhere"):
        async with served(DoorSettings(bind="127.0.0.1", certificate=str(tmp_path / "nowhere"), key="x"), answers()):
            pass


async def test_with_an_authority_metrics_are_told_to_its_clients_only_and_webhooks_to_all(tmp_path: Path) -> None:
    made, key = certificate(tmp_path, "server")
    authority, _ = certificate(tmp_path, "authority")
    client, client_key = certificate(tmp_path, "proxy", issuer="authority")
    settings = DoorSettings(bind="127.0.0.1", port=0, certificate=str(made), key=str(key), client_ca=str(authority))
    async with served(settings, answers()) as (port, _):
        url = f"https://127.0.0.1:{port}"
        anybody, proxy = (ssl.create_default_context(cafile=str(made)) for _ in range(2))
        proxy.load_cert_chain(client, client_key)
        assert (await get(f"{url}/apis", ssl=anybody))[0] == 401
        assert (await get(f"{url}/apis", ssl=proxy))[0] == 200
        assert (await post(f"{url}/mutate", a_review(GUEST), ssl=anybody))[0] == 200
