"""Keys and certificates as a cluster gets them: what reads them elsewhere takes them."""

from __future__ import annotations

import asyncio
import itertools
import ssl
import time
from pathlib import Path

import nkeys  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neap.common.errors import InputError
from neap.common.kube.users import ROOMS
from neap.gateway.core.keys.certificate import Party, certificate, pem, private_key
from neap.gateway.core.keys.credentials import SERVED, Made, credentials, nkey, nkey_seed
from neap.gateway.shell.keys import Pair
from tests.conftest import SOON

seeds = st.binary(min_size=32, max_size=32)


def made(at: float | None = None) -> dict[tuple[str, str], Made]:
    count = itertools.count(1)
    every = credentials(Pair, serial=lambda: next(count), at=time.time() if at is None else at)
    return {(one.namespace, one.name): one for one in every}


@given(seed=seeds)
def test_an_nkey_is_the_one_that_others_make_of_the_seed(seed: bytes) -> None:
    theirs = nkeys.encode_seed(seed, nkeys.PREFIX_BYTE_USER)
    assert nkey_seed(seed) == theirs.decode()
    assert (
        nkey(nkeys.from_seed(bytearray(theirs))._keys.verify_key.encode())
        == nkeys.from_seed(theirs).public_key.decode()
    )


def test_every_deployed_room_has_a_seed_where_it_runs_and_its_public_half_is_known() -> None:
    objects = made()
    public = objects["neap-system", "neap-nats-users"].body["data"]
    for room in ROOMS:
        place = "neap-node" if room in ("enforcer", "reporter") else "neap-system"
        seed = objects[place, f"neap-nkey-{room}"].body["stringData"]["seed"]
        assert nkeys.from_seed(bytearray(seed.encode())).public_key.decode() == public[f"NEAP_NKEY_{room.upper()}"]
    assert len(set(public.values())) == len(ROOMS)


@pytest.mark.parametrize("secret", sorted(SERVED))
async def test_a_tls_client_trusts_the_certificate_for_its_names_and_no_other(tmp_path: Path, secret: str) -> None:
    content = made()["neap-system", secret].body["stringData"]
    for name, text in content.items():
        (tmp_path / name).write_text(text)
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serving.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    trusting = ssl.create_default_context(cafile=tmp_path / "ca.crt")
    trusting.verify_flags |= ssl.VERIFY_X509_STRICT

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=serving)
    port = server.sockets[0].getsockname()[1]
    async with server, asyncio.timeout(SOON):
        for name in SERVED[secret]:
            host = name.replace("*", "neap-nats-0")
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting, server_hostname=host)
            assert await reader.readline() == b"hello\n"
            writer.close()
        with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
            await asyncio.open_connection("127.0.0.1", port, ssl=trusting, server_hostname="neap.example")


async def test_a_certificate_is_not_valid_before_or_after_its_time(tmp_path: Path) -> None:
    key = Pair()
    party = Party("x", key.public)
    (tmp_path / "key").write_text(pem("PRIVATE KEY", private_key(key.seed)))
    for at in (0.0, 2 * time.time()):
        der = certificate(party, party, key.sign, serial=1, at=at, lasts=60, names=("localhost",))
        (tmp_path / "crt").write_text(pem("CERTIFICATE", der))
        serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        serving.load_cert_chain(tmp_path / "crt", tmp_path / "key")
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=serving)
        trusting = ssl.create_default_context(cafile=tmp_path / "crt")
        async with server, asyncio.timeout(SOON):
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(ssl.SSLCertVerificationError, match="expired|not yet valid"):
                await asyncio.open_connection("127.0.0.1", port, ssl=trusting, server_hostname="localhost")


@pytest.mark.parametrize("name", ["", "a b", "ü.example", "x" * 300])
def test_what_is_no_dns_name_is_refused(name: str) -> None:
    party = Party("x", bytes(32))
    with pytest.raises(InputError, match="no DNS name"):
        certificate(party, party, lambda _: bytes(64), serial=1, at=0.0, lasts=60.0, names=(name,))


def test_secrets_come_before_what_says_that_all_is_there() -> None:
    every = credentials(Pair, serial=lambda: 1, at=0.0)
    kinds = [one.kind for one in every]
    assert kinds.index("ConfigMap") == kinds.count("Secret")
    assert (every[-1].namespace, every[-1].name) == ("neap-system", "neap-authority")
