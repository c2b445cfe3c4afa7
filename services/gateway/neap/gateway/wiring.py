"""The gateway's table: the Kubernetes API heard and changed, the bus heard and told."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from secrets import token_hex
from typing import Any, Final

import msgspec

from neap.common.contract.catalogue import (
    API,
    ENFORCEMENT,
    EVICTING,
    EVICTIONS,
    FORECASTS,
    HEADROOM,
    NODE_USAGE,
    PLACEMENTS,
    POLICY,
    PROFILES,
    RATIOS,
    RESIZES,
    SCALING,
    TIDES,
    TOPOLOGY,
    WORKLOAD,
)
from neap.common.contract.catalogue import NODES as NODE_OBJECTS
from neap.common.kube.kind import Kind
from neap.common.kube.objects import BUDGETS, JOBS, NODES, PODS, REPLICA_SETS
from neap.common.kube.port import Kube
from neap.common.runtime.service import Outside, Route, Service, consume, every, follow, hear, on, serve, watch
from neap.gateway.core.asking.api import ApiView
from neap.gateway.core.asking.flow import Flow
from neap.gateway.core.asking.lease import Elector
from neap.gateway.core.asking.routing import Priority
from neap.gateway.core.asking.share import Share
from neap.gateway.core.asking.staleness import Staleness
from neap.gateway.core.door.measuring import MeasuringMachine
from neap.gateway.core.door.metrics_api import answer
from neap.gateway.core.door.metrics_store import MetricStore
from neap.gateway.core.door.notes import Notes
from neap.gateway.core.hearing.reflector import Reflector
from neap.gateway.core.kinds.table import KINDS
from neap.gateway.core.machine import GatewayMachine
from neap.gateway.core.plans.plans import WORKLOADS
from neap.gateway.settings import Settings
from neap.gateway.shell.hands import Hands
from neap.gateway.shell.late import Closable, late
from neap.gateway.shell.lead import elected
from neap.gateway.shell.reflect import reflected
from neap.gateway.shell.sharing import kept_steady
from neap.gateway.shell.steady import SteadyKube
from neap.gateway.shell.web import Answers, door
from neap.gateway.shell.weigh import weighed

SETTINGS: Final = Settings
ALWAYS: Final = (PODS, NODES, REPLICA_SETS, JOBS, BUDGETS, *WORKLOADS)  # kinds that every API server has
DURABLE: Final = "gateway"
WATCHED: Final = (
    NODE_OBJECTS, POLICY, PROFILES, TOPOLOGY, HEADROOM, ENFORCEMENT, EVICTING, RATIOS, SCALING, TIDES,
)  # fmt: skip


def wire(settings: Settings, outside: Outside, kubes: Mapping[str, Kube] | None = None) -> Service:
    """One gateway. `kubes`: API servers by name, handed in; else those of the settings, opened when first needed."""
    clock, seed = outside.clock, outside.seed
    replica = settings.replica or (f"gateway-{seed}" if kubes else f"{socket.gethostname()}-{token_hex(4)}")
    settings = msgspec.structs.replace(settings, replica=replica)
    own = {} if kubes else _servers(settings)
    servers: Mapping[str, Kube] = kubes or own
    flow, elector = Flow(settings.api, tuple(servers)), Elector(replica, settings.lease, seed=seed)
    steady, staleness = SteadyKube(servers, flow, clock), Staleness(settings.staleness)
    reflectors = _reflectors(settings, seed)
    view = ApiView(replica, flow, Share(replica, settings.share), elector, staleness, reflectors)
    store, notes = MetricStore(settings.metrics), Notes()
    gate = asyncio.Semaphore(settings.api.lists_at_once)
    fenced = steady.of(forbids=_fence(elector, clock.now)) if settings.elect else steady
    vital = steady.of(Priority.VITAL)
    return Service(
        "gateway",
        "",
        machine=MeasuringMachine(GatewayMachine(settings, staleness), store, notes),
        routes=(
            follow(WORKLOAD.only()),
            follow(PLACEMENTS.only()),
            *(consume(one.only(), durable=DURABLE) for one in (EVICTIONS, RESIZES)),
            *(watch(one.only()) for one in WATCHED),
            every(settings.beat, "beat"),
            serve(API, lambda asked: view.answer(asked, clock.now())),
            *(hear(partial(reflected, steady, clock, one, gate)) for one in reflectors),
            hear(partial(kept_steady, steady, view, outside.bus, clock)),
            *_doors(settings, store, notes, outside),
            *_election(settings, partial(elected, vital, clock, elector, settings.lease, steady.still)),
        ),
        effects=Hands(fenced, outside.bus).effects,
        close=partial(_close, own.values()),
    )


def _servers(settings: Settings) -> dict[str, Closable]:
    """By the name or address of each."""

    async def open_kube(host: str) -> Closable:
        from neap.gateway.shell.http import connect  # noqa: PLC0415  a heavy client, only for those who use it

        return await connect(kubeconfig=settings.kubeconfig, context=settings.context, host=host)

    hosts = settings.servers or ("",)
    return {host or "configured": late(partial(open_kube, host)) for host in hosts}


async def _close(servers: Iterable[Closable]) -> None:
    for server in servers:
        await server.close()


def _reflectors(settings: Settings, seed: int) -> tuple[Reflector, ...]:
    rare = msgspec.structs.replace(settings.reflector, optional=True)
    kinds: dict[Kind[Any], Any] = {**dict.fromkeys(ALWAYS, settings.reflector), **dict.fromkeys(KINDS, rare)}
    return tuple(Reflector(kind, how, seed=seed) for kind, how in kinds.items())


def _fence(elector: Elector, now: Callable[[], float]) -> Callable[[], str]:
    return lambda: "" if elector.leads(now()) else "another gateway leads"


def _doors(settings: Settings, store: MetricStore, notes: Notes, outside: Outside) -> tuple[Route, ...]:
    """What Kubernetes asks over HTTP; every replica answers, whoever leads."""
    if not settings.serve:
        return ()
    answers = Answers(
        admission=settings.admission,
        metrics=lambda path, query, accept: answer(path, query, store, outside.clock.now(), accept),
        healthy=list,
        weigh=weighed(outside.bus, settings.door.deadline),
        note=notes.of,
    )
    return (on(NODE_USAGE.only()), watch(FORECASTS.only()), hear(door(settings.door, answers)))


def _election(settings: Settings, source: Any) -> tuple[Route, ...]:
    return (hear(source),) if settings.elect else ()
