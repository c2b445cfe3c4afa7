"""The enforcer's table: advice, a timer and a folder watch in; knobs on the host, and what became of them, out."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from neap.common.contract.catalogue import ADVICE, DEVICES
from neap.common.errors import PortError
from neap.common.host.watch import open_watch
from neap.common.runtime.plugins import load
from neap.common.runtime.service import Outside, Service, every, hear, watch
from neap.enforcer.core.instruction import Apply, Observe, Probe, TellRuntime, WatchFolders
from neap.enforcer.core.knob import Knob, by_file
from neap.enforcer.core.machine import EnforcerMachine
from neap.enforcer.settings import Settings
from neap.enforcer.shell.door import door_of
from neap.enforcer.shell.hands import Hands
from neap.enforcer.shell.journal import open_journal
from neap.enforcer.shell.probe import Feeler

SETTINGS: Final = Settings
BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"


def wire(settings: Settings, outside: Outside) -> Service:
    """One node's enforcer."""
    boot = ""
    with suppress(PortError):  # a virtual host never boots
        boot = outside.host.read(BOOT_ID).strip()
    journal = open_journal(settings.journal_dir, settings.node, boot=boot)
    knobs = by_file(load("neap.enforcer.plugins", Knob, group="neap.enforcer.plugins"))
    folders = open_watch(outside.host)
    hands = Hands(outside.host, journal, knobs, settings.cgroup_roots, folders)
    feeler = Feeler(outside.host, knobs, settings.cgroup_roots)
    machine = EnforcerMachine(settings, knobs, journal.load())
    containers = open_journal(settings.journal_dir, f"{settings.node or 'node'}.containers", boot=boot)
    door = door_of(outside, settings.nri, containers, machine)
    return Service(
        "enforcer",
        settings.node,
        machine=machine,
        routes=(
            watch(ADVICE.only(node=settings.node)),
            watch(DEVICES.only(node=settings.node)),
            every(settings.period, "reconcile"),
            hear(folders.changes),
            *((hear(door.stories),) if door else ()),
        ),
        effects={
            Observe: hands.observe,
            Apply: hands.apply,
            Probe: feeler.probe,
            WatchFolders: hands.watch,
            **({TellRuntime: door.tell} if door else {}),
        },
    )
