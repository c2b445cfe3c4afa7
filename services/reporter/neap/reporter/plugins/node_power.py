"""Power of the processor packages, from their energy counters.

    power = Σ over packages of Δenergy / Δt          [watts; the counters are in microjoules]

A counter starts again at max_energy_range_uj, every few minutes on a large machine; it did if the package then drew
no more than MOST watts, else it was reset. Parts of a package (core, uncore, dram) and the platform as a whole (psys)
would count twice and are left out. Since 2020 only root may read the counters: unknown to others.
Source: kernel documentation, power/powercap, ABI/testing/sysfs-class-powercap.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from neap.common.units import Seconds
from neap.reporter.core.collector import Collector, Fields, Scope, Surroundings, Values, Wants, growth, known_sum
from neap.reporter.core.text import count

ZONE_DIR: Final = "/sys/class/powercap"
MICROJOULES: Final = 1e6
MOST: Final = 2000.0  # watts of one package
DEVICE_LIMIT: Final = 64
PACKAGE: Final = "package"


def zones(around: Surroundings) -> list[str]:
    """Zones of the first level: "intel-rapl:0", not "intel-rapl:0:1"; AMD's are called the same."""
    names = (name for name in around.listed(ZONE_DIR) if name.startswith("intel-rapl:") and name.count(":") == 1)
    return list(names)[:DEVICE_LIMIT]


def wants(around: Surroundings) -> Wants:
    """Name, energy and range of every zone."""
    return tuple(
        (f"{ZONE_DIR}/{zone}/{file}", partial(_of, zone, file))
        for zone in zones(around)
        for file in ("name", "energy_uj", "max_energy_range_uj")
    )


def rate(before: Values | None, now: Values, seconds: Seconds) -> Fields:
    """Power since the reading before."""
    earlier = {value[:2]: value[2] for value in before or () if value is not None}
    later: dict[tuple[str, str], Any] = {value[:2]: value[2] for value in now if value is not None}
    packages = [zone for (zone, file), name in (earlier | later).items() if file == "name" and name.startswith(PACKAGE)]
    if before is None:
        return {}
    most = MOST * MICROJOULES * seconds
    energy = known_sum(
        [
            growth(
                earlier.get((zone, "energy_uj")),
                later.get((zone, "energy_uj")),
                wrap=later.get((zone, "max_energy_range_uj"), 0),
                most=most,
            )
            for zone in packages
        ]
    )
    return {"power": None if energy is None else energy / MICROJOULES / seconds}


def _of(zone: str, file: str, text: str) -> tuple[str, str, Any]:
    return zone, file, text.strip() if file == "name" else count(text)


PLUGIN: Final = Collector(Scope.NODE, wants, rate, lists=(ZONE_DIR,))
