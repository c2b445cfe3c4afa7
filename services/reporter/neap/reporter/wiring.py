"""What the reporter hears, when it acts, and what it can do."""

from __future__ import annotations

import zlib
from typing import Final

from neap.common.contract.catalogue import REPORTS
from neap.common.errors import SettingsError
from neap.common.runtime import plugins
from neap.common.runtime.service import Outside, Service, every, serve
from neap.reporter.core.collector import Collector
from neap.reporter.core.machine import LOOK, REPORT, SOURCE, ReporterMachine
from neap.reporter.settings import Settings
from neap.reporter.shell.host import effects

SETTINGS: Final = Settings
COLLECTORS: Final = plugins.load("neap.reporter.plugins", Collector, group="neap.reporter.plugins")


def wire(settings: Settings, outside: Outside) -> Service:
    """One node's reporter.

    Raises:
        SettingsError: a collector that is to be off, or to be asked at other times, does not exist.
    """
    for key, names in (("off", settings.off), ("every", settings.every)):
        if unknown := sorted(set(names) - set(COLLECTORS)):
            raise SettingsError(f"reporter.{key} names no collector: {unknown} (known: {', '.join(COLLECTORS)})")
    own = settings.spread * zlib.crc32(settings.node.encode()) / 2**32  # share of the period
    phase = settings.phase + own * settings.period
    machine = ReporterMachine(settings, COLLECTORS)
    return Service(
        SOURCE,
        settings.node,
        machine=machine,
        routes=(
            every(settings.period, REPORT, phase=phase),
            every(settings.period * settings.topology_every, LOOK, phase=phase),
            serve(REPORTS, machine.recent.answer, node=settings.node),
        ),
        effects=effects(outside.host, outside.clock),
    )
