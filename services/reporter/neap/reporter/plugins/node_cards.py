"""How busy the cards are whose driver says so in sysfs (amdgpu), and how much of their memory is in use.

    busy   = gpu_busy_percent / 100        [ratio 0..1, as the driver averages it]
    memory = mem_info_vram_used            [bytes]

Cards are named as the DRM layer does: "card0". NVIDIA's driver has no such files: its cards are unknown here.
Source: kernel documentation, gpu/amdgpu/thermal and driver-misc.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from neap.common.model.usage import DeviceUsage
from neap.common.units import Ratio, Seconds
from neap.reporter.core.collector import Collector, Fields, Scope, Surroundings, Values, Wants
from neap.reporter.core.text import count

CARD_DIR: Final = "/sys/class/drm"
BUSY, MEMORY = "gpu_busy_percent", "mem_info_vram_used"
DEVICE_LIMIT: Final = 64
HUNDRED: Final = 100


def cards(around: Surroundings) -> list[str]:
    """Cards with the driver's own numbers; "card0-DP-1" is a connector."""
    names = (name for name in around.listed(CARD_DIR) if name.startswith("card") and name[4:].isdecimal())
    return [name for name in names if BUSY in around.listed(f"{CARD_DIR}/{name}/device")][:DEVICE_LIMIT]


def wants(around: Surroundings) -> Wants:
    """Two files per card."""
    return tuple(
        (f"{CARD_DIR}/{card}/device/{file}", partial(_of, card, file))
        for card in cards(around)
        for file in (BUSY, MEMORY)
    )


def parse_busy(text: str) -> Ratio:
    """A percentage."""
    percent = count(text)
    if percent > HUNDRED:
        raise ValueError(f"no percentage: {percent}")
    return percent / HUNDRED


def rate(before: Values | None, now: Values, _seconds: Seconds) -> Fields:
    """What the driver says now."""
    known = {value[:2]: value[2] for value in now if value is not None}
    names = sorted({value[0] for value in (*(before or ()), *now) if value is not None})
    return {
        "cards": tuple(
            DeviceUsage(name=card, busy=known.get((card, BUSY)), memory=known.get((card, MEMORY))) for card in names
        )
    }


def _of(card: str, file: str, text: str) -> tuple[str, str, float]:
    return card, file, parse_busy(text) if file == BUSY else count(text)


PLUGIN: Final = Collector(Scope.NODE, wants, rate, lists=(CARD_DIR, f"{CARD_DIR}/*/device"))
