"""What resctrl counts per group and L3, and how it adds up.

    <group>/mon_data/mon_L3_<id>/{mbm_total_bytes, llc_occupancy}

Source: kernel documentation, filesystems/resctrl.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import Any, Final

from neap.common.units import Seconds
from neap.reporter.core.collector import Surroundings, Values, Wants, growth, known_sum
from neap.reporter.core.text import count

RESCTRL: Final = "/sys/fs/resctrl"
DATA: Final = "mon_data"
DOMAIN: Final = "mon_L3_"
TRAFFIC, HELD = "mbm_total_bytes", "llc_occupancy"
FILE_LIMIT: Final = 2048

Sums = dict[object, Any]


def domains(around: Surroundings, groups: Mapping[str, str]) -> Wants:
    """Two files per L3 of every group (directory -> name); values are (file, name, L3, number)."""
    found = [
        (f"{directory}/{DATA}/{domain}/{file}", partial(_of, file, name, int(domain.removeprefix(DOMAIN))))
        for directory, name in groups.items()
        for domain in around.listed(f"{directory}/{DATA}")
        if domain.startswith(DOMAIN) and domain.removeprefix(DOMAIN).isdecimal()
        for file in (TRAFFIC, HELD)
    ]
    return tuple(found[:FILE_LIMIT])


def sums(
    before: Values | None, now: Values, seconds: Seconds, *, key: Callable[[str, int], Hashable]
) -> tuple[Sums, Sums]:
    """Bytes per second, and bytes held, added up by `key(group, L3)`; unknown as soon as one part is."""
    earlier = {value[:3]: value[3] for value in before or () if value is not None and value[0] != "id"}
    later = {value[:3]: value[3] for value in now if value is not None and value[0] != "id"}
    traffic, held = dict[object, list[Any]](), dict[object, list[Any]]()
    for what in dict.fromkeys((*earlier, *later)):
        file, group, domain = what
        number = later.get(what)
        if file == HELD:
            held.setdefault(key(group, domain), []).append(number)
        else:
            grown = growth(earlier.get(what), number)
            traffic.setdefault(key(group, domain), []).append(None if grown is None else grown / seconds)
    return {name: known_sum(parts) for name, parts in traffic.items()}, {
        name: known_sum(parts) for name, parts in held.items()
    }


def _of(file: str, name: str, domain: int, text: str) -> tuple[str, str, int, int]:
    return file, name, domain, count(text)
