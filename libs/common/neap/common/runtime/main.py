"""The entry of a process.

    python -m neap.advisor [--config FILE] [--set section.key=value]...

Settings, logs, clock, tracer, health port, bus, services; then until SIGTERM or SIGINT. A second signal ends it at
once. An agent (several rooms of a node) has a local bus in front of NATS and does not wait for it.
Exit status: 0 ended as asked, 2 a setting does not hold (named on stderr), 1 crashed.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import ssl
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn

from neap.common.bus.port import Bus
from neap.common.contract.catalogue import SERVICES
from neap.common.contract.channel import escape
from neap.common.errors import InputError, NeapError, SettingsError
from neap.common.runtime.health import serve_health
from neap.common.runtime.journal import FileJournal, Journal, NoJournal
from neap.common.runtime.launch import (
    Process,
    build_services,
    find_room,
    make_clock,
    open_hosts,
    outsides,
    unless,
    without_secrets,
)
from neap.common.runtime.settings import PROCESS, ProcessSettings, Sources, process_environment
from neap.common.telemetry import log
from neap.common.telemetry.metrics import Sample
from neap.common.telemetry.otel import make_tracer
from neap.common.units import Seconds

CLEAN, CRASHED, UNSETTLED = 0, 1, 2
CLOSING: Final[Seconds] = 5.0  # for connections and the last spans, after the services have ended
STARTING: Final[Seconds] = 60.0  # after which cycles are collected even if there is still something to be read
ATTEMPT: Final[Seconds] = 1.0  # for one try to reach the bus, before it is said that it is away
CONFIG: Final = "NEAP_CONFIG"  # the file, where no --config is given
COLLECT_EVERY: Final = 10_000  # objects made before cycles among them are searched for; nearly all of a report's die
# without that, and at Python's 700 the search takes 8 % of a busy node's time (measured)


def main(*names: str, argv: Sequence[str] | None = None) -> NoReturn:
    """Run these services in this process, and exit."""
    sys.exit(run(names, sys.argv[1:] if argv is None else argv, process_environment()))


def run(names: Sequence[str], argv: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run these services until a signal; the exit status."""
    title = f"neap-{names[0] if len(names) == 1 else 'agent'}"
    try:
        sources = _sources(title, argv, environment)
        sources.check([*SERVICES, *names, PROCESS])
        settings = sources.load(ProcessSettings, PROCESS)
        log.configure(level=settings.log_level, process=settings.name or title)
        rooms = tuple(find_room(name) for name in names)
        chosen = {room.name: sources.load(room.settings, room.name) for room in rooms}
        process = Process(rooms, settings, when_ready=_begin_collecting)
        gc.disable()
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_live(process, chosen, sources, title))
    except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001  here a process ends
        return _tell(title, error)
    finally:
        gc.enable()  # it may have ended before it began to collect, and whoever called goes on


def _begin_collecting() -> None:
    """What was read until now stays, and is not searched for cycles again and again: a tenth of a long start."""
    if not gc.isenabled():
        gc.freeze()
        gc.set_threshold(COLLECT_EVERY)
        gc.enable()


def _sources(title: str, argv: Sequence[str], environment: Mapping[str, str]) -> Sources:
    parser = argparse.ArgumentParser(prog=title)
    parser.add_argument("--config", metavar="FILE", default=environment.get(CONFIG, ""), help=f"TOML; or ${CONFIG}")
    parser.add_argument("--set", metavar="SECTION.KEY=VALUE", action="append", default=[], help="over all else")
    asked = parser.parse_args(argv)
    pairs = [pair.partition("=") for pair in asked.set]
    for name, equals, _ in pairs:
        if not equals or "." not in name:
            raise SettingsError(f"--set {name}: write section.key=value, such as process.log_level=debug")
    overrides = {name: value for name, _, value in pairs}
    return Sources(file=Path(asked.config) if asked.config else None, environment=environment, overrides=overrides)


async def _live(process: Process, chosen: Mapping[str, Any], sources: Sources, title: str) -> int:
    loop, stop, deadline = asyncio.get_running_loop(), asyncio.Event(), asyncio.timeout(None)

    def ask() -> None:
        patience = 0.0 if stop.is_set() else process.settings.shutdown_grace + CLOSING
        stop.set()
        deadline.reschedule(loop.time() + patience)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask)
    loop.call_later(STARTING, _begin_collecting)
    try:
        async with deadline:
            await _serve(process, chosen, sources, title, stop)
    except TimeoutError:
        if not deadline.expired():
            raise
        log.get_logger("process").error("process.late", why="it did not end within its grace, and was cut off")
        return CRASHED
    return CLEAN


async def _serve(
    process: Process, chosen: Mapping[str, Any], sources: Sources, title: str, stop: asyncio.Event
) -> None:
    settings, nodes = process.settings, _nodes(process.settings, chosen)
    clock, hosts = make_clock(settings.clock), open_hosts(settings.host, nodes)
    async with AsyncExitStack() as ending:
        journal = _journal(settings.journal, ending)
        if isinstance(journal, FileJournal):
            for room, mine in chosen.items():
                journal.begin(room, mine, settings.seed)
        tracer = make_tracer(title.removeprefix("neap-"), sources.environment)
        ending.push_async_callback(asyncio.to_thread, tracer.close)
        process.metrics.observe(lambda: [Sample("neap_spans_dropped_total", tracer.dropped)])
        port = await ending.enter_async_context(
            serve_health(settings.health_bind, settings.health_port, process.probes)
        )
        log.get_logger("process").info("process.started", rooms=sorted(chosen), nodes=nodes, health_port=port)
        ending.push_async_callback(_leave, process)
        name = settings.name or (f"{title}@{nodes[0]}" if len(nodes) == 1 else title)
        reach = partial(process.connect, lambda: _connect(settings, name, echo=not process.is_agent))

        async def live(bus: Bus) -> None:
            outside = outsides(bus, clock, tracer, hosts, settings.seed)
            await process.run(build_services(process.rooms, chosen, outside, nodes=nodes), journal, stop)

        if process.is_agent:
            local = process.go_local(clock, nodes)
            async with asyncio.TaskGroup() as group:
                group.create_task(local.run(reach))
                await live(local)
                await local.close()
        elif await unless(stop, reach()) and process.bus is not None:
            await live(process.bus)
    log.get_logger("process").info("process.ended")


async def _connect(settings: ProcessSettings, name: str, *, echo: bool) -> Bus:
    from neap.common.bus.nats import connect  # noqa: PLC0415  11 MiB that a simulation does not need

    seed, authorities = _readable("nats_nkey_file", settings), _readable("nats_ca_file", settings)
    try:
        return await connect(
            settings.nats_url,
            name=name,
            nkey_seed=seed or None,
            tls=ssl.create_default_context(cafile=authorities) if authorities else None,
            within=ATTEMPT,
            replicas=settings.nats_replicas,
            echo=echo,
        )
    except (InputError, ssl.SSLError) as error:
        raise SettingsError(f"process.nats_*: {without_secrets(str(error))}") from None


def _readable(setting: str, settings: ProcessSettings) -> str:
    path = str(getattr(settings, setting))
    if path and not os.access(path, os.R_OK):
        raise SettingsError(f"process.{setting} = {path!r}: cannot be read")
    return path


async def _leave(process: Process) -> None:
    """Close the bus, if there is one, within its part of the grace."""
    if process.bus is not None:
        with suppress(TimeoutError, NeapError):
            async with asyncio.timeout(CLOSING / 2):
                await process.bus.close()


def _nodes(settings: ProcessSettings, chosen: Mapping[str, Any]) -> tuple[str, ...]:
    named = tuple(dict.fromkeys(node for each in chosen.values() if (node := getattr(each, "node", ""))))
    nodes = settings.nodes or named or (os.uname().nodename.lower().replace("_", "-"),)
    for node in nodes:
        try:
            escape(node)
        except InputError as error:
            raise SettingsError(f"process.nodes: {node!r}: {error}") from None
    return nodes


def _journal(path: str, ending: AsyncExitStack) -> Journal:
    if not path:
        return NoJournal()
    try:
        return FileJournal(ending.enter_context(Path(path).open("ab")))
    except OSError as error:
        raise SettingsError(f"process.journal = {path!r}: cannot be written: {error.strerror}") from None


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        return None
    return uvloop.new_event_loop


def _tell(title: str, error: BaseException) -> int:
    """A setting in words; anything else with its story."""
    if isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        return _tell(title, error.exceptions[0])
    if isinstance(error, SettingsError):
        sys.stderr.write(f"{title}: {error}\n")
        return UNSETTLED
    log.get_logger("process").error("process.crashed", why=str(error), exc_info=error)
    return CRASHED
