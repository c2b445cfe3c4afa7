"""The enforcer's table: advice and a timer in; knobs on the host, and what became of them, out."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from neap.common.contract.catalogue import ADVICE
from neap.common.errors import PortError
from neap.common.runtime.plugins import load
from neap.common.runtime.service import Outside, Service, every, watch
from neap.enforcer.core.instruction import Apply, Observe
from neap.enforcer.core.knob import Knob, by_file
from neap.enforcer.core.machine import EnforcerMachine
from neap.enforcer.settings import Settings
from neap.enforcer.shell.hands import Hands
from neap.enforcer.shell.journal import open_journal

SETTINGS: Final = Settings
BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"


def wire(settings: Settings, outside: Outside) -> Service:
    """One node's enforcer."""
    boot = ""
    with suppress(PortError):  # a virtual host never boots
        boot = outside.host.read(BOOT_ID).strip()
    journal = open_journal(settings.journal_dir, settings.node, boot=boot)
    knobs = by_file(load("neap.enforcer.plugins", Knob, group="neap.enforcer.plugins"))
    hands = Hands(outside.host, journal, knobs, settings.cgroup_roots)
    return Service(
        "enforcer",
        settings.node,
        machine=EnforcerMachine(settings, knobs, journal.load()),
        routes=(
            watch(ADVICE.only(node=settings.node)),
            every(settings.period, "reconcile"),
        ),
        effects={Observe: hands.observe, Apply: hands.apply},
    )
