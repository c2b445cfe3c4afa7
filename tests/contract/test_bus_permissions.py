"""The permissions generated from the catalogue: what each service needs works, what a neighbour needs does not."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import nats
import nkeys  # type: ignore[import-untyped]
import pytest

from neap.common.bus.nats import connect
from neap.common.bus.port import Bus
from neap.common.contract.catalogue import CHANNELS, ENDPOINTS, NODE_USAGE, REPORTS, SERVICES, STREAMS, TOPOLOGY
from neap.common.contract.channel import Channel, Delivery
from neap.common.contract.generate import main, parse_user, stale
from neap.common.contract.permissions import NODE_SERVICES, authorization, rights
from neap.common.contract.subject import covers
from neap.common.errors import Denied, InputError, NoResponder, WireError
from neap.common.model.usage import NodeUsage, Reports, ReportsRequest
from neap.common.testing.natsd import NatsServer
from tests.conftest import ROOT, SOON
from tests.contract.conftest import PATIENCE

HERE, THERE = "n1", "n2"
USAGE = NodeUsage(at=0.0, source="test", node=HERE, seq=1, period=1.0)


def tokens(channel: Channel[Any], node: str, service: str) -> dict[str, str]:
    """Names for every token of a pattern."""
    return {name: {"node": node, "room": service}.get(name, "some") for name in channel.fields}


async def say(bus: Bus, channel: Channel[Any], named: dict[str, str]) -> None:
    """The verb that writes this channel; the payload does not matter to a server."""
    to = channel.at(**named)
    message: dict[str, str] = {}
    match channel.delivery:
        case Delivery.LATEST:
            await bus.publish(to, message)
        case Delivery.STATE:
            await bus.put(to, message)
        case Delivery.EVENTS | Delivery.WORK:
            await bus.emit(to, message, id=f"{id(bus)} {to.subject}")
        case Delivery.LEDGER:
            await bus.append(to, message, seen=0, id=f"{id(bus)} {to.subject}")


async def hear(bus: Bus, channel: Channel[Any], named: dict[str, str]) -> None:
    """The verbs that read this channel."""
    only = channel.only(**named)
    match channel.delivery:
        case Delivery.LATEST:
            async with bus.subscribe(only):
                pass
        case Delivery.STATE:
            async with bus.watch(only):
                pass
            if "*" not in only.subject:
                with suppress(WireError):
                    await bus.get(channel.at(**named))
        case Delivery.LEDGER:
            async with bus.follow(only) as items:
                await anext(items)
        case Delivery.EVENTS:
            async with bus.follow(only) as items:
                await anext(items)
            async with bus.consume(only, durable=f"d{id(bus)}"):
                pass
        case Delivery.WORK:
            async with bus.consume(only, durable="workers"):
                pass


async def allowed(verb: Any, bus: Bus, channel: Channel[Any], named: dict[str, str]) -> bool:
    """Whether the server let it pass."""
    try:
        async with asyncio.timeout(SOON):
            await verb(bus, channel, named)
    except Denied:
        return False
    return True


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_can_do_what_the_catalogue_says_and_nothing_else(nats_stage: Any, service: str) -> None:
    bus = await nats_stage.connect(service=service)
    for channel in CHANNELS:
        mine = tokens(channel, HERE, service)
        assert await allowed(say, bus, channel, mine) == (service in channel.says), f"{service} says {channel.pattern}"
        assert await allowed(hear, bus, channel, mine) == (service in channel.hears), (
            f"{service} hears {channel.pattern}"
        )
    assert bus.health.connected
    assert bus.health.reconnects == 0


@pytest.mark.parametrize("service", sorted(NODE_SERVICES))
async def test_a_service_of_a_node_can_touch_nothing_of_another_node(nats_stage: Any, service: str) -> None:
    bus = await nats_stage.connect(service=service)
    for channel in CHANNELS:
        if "node" not in channel.fields:
            continue
        for verb in (say, hear):
            assert not await allowed(verb, bus, channel, tokens(channel, THERE, service)), channel.pattern
            assert verb is say or not await allowed(verb, bus, channel, {}), f"every node of {channel.pattern}"


async def test_only_those_who_may_ask_reach_an_endpoint(nats_stage: Any) -> None:
    for service in SERVICES:
        bus = await nats_stage.connect(service=service)
        for endpoint in ENDPOINTS:
            with pytest.raises(NoResponder if service in endpoint.asks else Denied):
                await bus.request(endpoint, {}, timeout=SOON, node=HERE)


async def test_a_service_of_a_node_asks_and_answers_for_its_own_node_only(nats_stage: Any) -> None:
    bus = await nats_stage.connect(service="advisor")
    with pytest.raises(Denied):
        await bus.request(REPORTS, ReportsRequest(after=0), timeout=SOON, node=THERE)
    bus = await nats_stage.connect(service="reporter")

    async def answer(_: ReportsRequest) -> Reports:
        return Reports()

    with pytest.raises(ExceptionGroup) as refused:
        async with bus.serve(REPORTS, answer, node=THERE):
            pass
    assert refused.group_contains(Denied)


async def test_nobody_reads_the_replies_of_another(nats_stage: Any) -> None:
    complaint: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def complain(error: Exception) -> None:
        if not complaint.done():
            complaint.set_result(str(error))

    who = {"user": "advisor", "password": "secret", "connect_timeout": int(SOON)}
    spy = await nats.connect(nats_stage.server.url, **who, error_cb=complain)
    await spy.subscribe("_INBOX_neap-scheduler.>")
    async with asyncio.timeout(SOON):
        assert "permissions violation for subscription" in await complaint
    await spy.close()


async def test_a_node_service_waits_for_streams_it_may_not_make(nats_stage: Any) -> None:
    admin = await nats_stage.connect()
    raw = await nats.connect(nats_stage.server.url, user="all", password="secret", connect_timeout=int(SOON))
    await raw.jetstream(timeout=SOON).delete_stream("NEAP_TRAIL")
    reporter = await nats_stage.connect(service="reporter")
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(reporter.ensure(STREAMS, CHANNELS))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        await admin.ensure(STREAMS, CHANNELS)
    await raw.close()


async def test_a_service_with_an_nkey_connects_with_its_rights(tmp_path: Path, store: str) -> None:
    seed = nkeys.encode_seed(b"0123456789abcdef0123456789abcdef", nkeys.PREFIX_BYTE_USER)
    (tmp_path / "seed").write_bytes(seed)
    public = nkeys.from_seed(bytearray(seed)).public_key.decode()
    config = authorization([parse_user(f"reporter@n1={public}")])
    async with NatsServer(config=config, store=store) as server:
        seed_file = str(tmp_path / "seed")
        bus = await connect(server.url, name="neap-reporter@n1", nkey_seed=seed_file, within=SOON, patience=PATIENCE)
        with pytest.raises(Denied, match=r"neap\.v1\.node\.n2\.usage"):
            await bus.publish(NODE_USAGE.at(node=THERE), USAGE)
        await bus.publish(NODE_USAGE.at(node=HERE), USAGE)
        await bus.close()


def test_a_process_of_several_services_has_the_rights_of_all() -> None:
    agent = rights(["reporter", "advisor"], HERE, name="neap-agent@n1")
    assert agent.may_publish(NODE_USAGE.at(node=HERE).subject)
    assert agent.may_publish("$KV.neap-advice.n1")
    assert agent.may_subscribe("_INBOX_neap-agent_n1.x")
    assert not agent.may_publish(NODE_USAGE.at(node=THERE).subject)


def test_unknown_services_and_malformed_users_are_refused_by_name() -> None:
    with pytest.raises(InputError, match="chef"):
        rights(["chef"])
    with pytest.raises(InputError, match="example"):
        parse_user("advisor@n1")


@pytest.mark.parametrize(
    ("pattern", "subject", "is_covered"),
    [
        ("a.b", "a.b", True),
        ("a.*", "a.b", True),
        ("a.*", "a.*", True),
        ("a.b", "a.*", False),
        ("a.*", "a.b.c", False),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        ("a.>", "a.>", True),
        ("a.*", "a.>", False),
        (">", "a.b", True),
        ("a.b.c", "a.b", False),
    ],
)
def test_a_pattern_covers_exactly_what_nats_would_match(pattern: str, subject: str, is_covered: bool) -> None:
    assert covers(pattern, subject) == is_covered


def test_generated_files_are_up_to_date() -> None:
    assert stale(ROOT) == []


def test_a_generated_file_that_differs_is_named_and_written_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--root", str(tmp_path)]) == 0
    assert main(["--root", str(tmp_path), "--check"]) == 0
    schema = tmp_path / "docs/schema/topology.json"
    schema.write_text("{}")
    (tmp_path / "docs/schema/of_the_past.json").write_text("{}")
    assert main(["--root", str(tmp_path), "--check"]) == 1
    told = capsys.readouterr().err
    assert "docs/schema/topology.json" in told
    assert "of_the_past.json" in told
    assert main(["--root", str(tmp_path)]) == 0
    assert main(["--root", str(tmp_path), "--check"]) == 0


def test_the_authorization_block_names_key_and_rights(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--authorization", "reporter@n1=UABC"]) == 0
    told = capsys.readouterr().out
    assert 'nkey: "UABC"' in told
    assert f'"$KV.neap-topology.{TOPOLOGY.at(node=HERE).subject}"' in told
