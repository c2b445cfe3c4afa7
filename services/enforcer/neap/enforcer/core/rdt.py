"""What resctrl files say: names of groups, schemata. Source: kernel documentation, arch/x86/resctrl."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, TypeAlias

from neap.common.errors import InputError

Schemata: TypeAlias = Mapping[tuple[str, str], str]  # (resource, domain) -> value
RESCTRL: Final = "/sys/fs/resctrl"
ROOT: Final = "/"  # the root group's name in our texts
GROUP, SCHEMATA = "resctrl group", "schemata"  # the files of a group we answer for; the first one is its folder
PRESENT, ABSENT = "present", "absent"
OWN: Final = frozenset({"info", "mon_data", "mon_groups"})  # the kernel's own directories
LARGEST_GRANULE: Final = 10  # per cent of bandwidth
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_RESOURCE: Final = re.compile(r"[A-Z0-9]{2,12}")
_DOMAIN: Final = re.compile(r"[0-9]{1,9}")
_VALUE: Final = re.compile(r"[0-9a-fA-F]{1,16}")


def check_group(name: str) -> str:
    """The name of a group that is not the root group.

    Raises:
        InputError: no name a directory of ours may have.
    """
    if not _NAME.fullmatch(name) or name in OWN or ".." in name:
        raise InputError(f"no name of a resctrl group: {name[:80]!r}")
    return name


def format_group(name: str) -> str:
    """The group a task belongs to; "" is the root group.

    Raises:
        InputError: see check_group.
    """
    return check_group(name) if name else ROOT


def group_folder(name: str) -> str:
    """The directory of a group; of the root group for "/"."""
    return RESCTRL if name == ROOT else f"{RESCTRL}/{name}"


def presence(text: str) -> bool:
    """Whether a group is there.

    Raises:
        InputError: neither word.
    """
    if text not in (PRESENT, ABSENT):
        raise InputError(f"neither {PRESENT} nor {ABSENT}: {text[:40]!r}")
    return text == PRESENT


def format_schemata(lines: Mapping[str, str]) -> str:
    """{"MB": "0=50;1=100"} -> "MB:0=50;1=100".

    Raises:
        InputError: malformed.
    """
    if not lines:
        raise InputError("no schemata")
    return written(parse_schemata("\n".join(f"{resource}:{line}" for resource, line in lines.items())))


def parse_schemata(text: str) -> Schemata:
    """What a schemata file says; the kernel pads numbers with blanks.

    Raises:
        InputError: malformed.
    """
    found: dict[tuple[str, str], str] = {}
    for line in filter(None, (line.strip() for line in text.splitlines())):
        resource, _, rest = line.partition(":")
        for part in rest.split(";"):
            domain, _, value = (word.strip() for word in part.partition("="))
            if not (_RESOURCE.fullmatch(resource.strip()) and _DOMAIN.fullmatch(domain) and _VALUE.fullmatch(value)):
                raise InputError(f"not a line of schemata: {line[:80]!r}")
            found[resource.strip(), domain] = value
    return found


def written(schemata: Schemata) -> str:
    """The text the kernel takes, in order."""
    lines: dict[str, list[str]] = {}
    for resource, domain in sorted(schemata, key=lambda key: (key[0], int(key[1]))):
        lines.setdefault(resource, []).append(f"{domain}={schemata[resource, domain]}")
    return "".join(f"{resource}:{';'.join(parts)}\n" for resource, parts in lines.items())


def agree(wanted: Schemata, read: Schemata) -> bool:
    """Whether the kernel, showing `read`, has taken everything wanted."""
    return all(key in read and _same(key[0], value, read[key]) for key, value in wanted.items())


def keep(kept: str | None, read: str, wanted: str) -> str:
    """The original of every domain that was or will be ours, and of no other.

    Raises:
        InputError: malformed.
    """
    shown = parse_schemata(read)
    ours = {key: shown[key] for key in parse_schemata(wanted) if key in shown}
    return written({**ours, **parse_schemata(kept or "")})


def _same(resource: str, wanted: str, read: str) -> bool:
    try:
        if resource.startswith("MB"):
            return 0 <= int(read) - int(wanted) < LARGEST_GRANULE
        return int(wanted, 16) == int(read, 16)
    except ValueError:
        return False
