"""Settings: defaults in code < one TOML file < environment < command line. The environment is read only here.

    [advisor]                        the section of a service, in the file
    period = "5s"
    NEAP_ADVISOR__PERIOD=5s          the same in the environment; `__` also enters a group
    --set advisor.period=5s          the same on the command line

An unknown key is an error that names the nearest one; a value out of bounds is an error that names the bound.
How settings are declared and documented: setting.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

from neap.common.bus.alone import Alone
from neap.common.errors import InputError, NeapError, SettingsError
from neap.common.runtime.setting import Duration, Key, Leaf, default_of, fields, group_of, leaves

S = TypeVar("S", bound=msgspec.Struct)
PREFIX: Final = "NEAP_"
PROCESS: Final = "process"


class ProcessSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What every process of neap needs to know, whatever runs in it."""

    nats_url: str = "nats://127.0.0.1:4222"  # servers of the bus, comma separated
    nats_nkey_file: str = ""  # seed this process proves itself with; empty: none is asked for
    nats_ca_file: str = ""  # authorities that vouch for the servers (tls://); empty: the system's
    nats_replicas: Annotated[int, msgspec.Meta(ge=1, le=5)] = 1  # copies of each stream and bucket
    name: str = ""  # of this process on the bus and in logs; empty: neap-<service>
    nodes: tuple[str, ...] = ()  # nodes whose services run here; empty: this host's name
    host: str = "/"  # what is read and written: a root directory, or virtual:///path.sock
    health_port: Annotated[int, msgspec.Meta(ge=-1, le=65535)] = 0  # /healthz, /readyz, /metrics; 0: any, -1: none
    health_bind: str = "127.0.0.1"  # address of the health port
    stuck_after: Duration = 30.0  # /healthz fails when one event is being handled for longer
    clock: str = ""  # empty: real time; epoch=...,origin=...,speed=... (seconds): an accelerated day
    seed: int = 0  # of everything random
    journal: str = ""  # file that gets every event and its instructions; empty: none
    shutdown_grace: Duration = 10.0  # for the last instructions after SIGTERM
    alone: Alone = Alone()
    log_level: Literal["debug", "info", "warning", "error"] = "info"  # lines below it are not written


class Sources(msgspec.Struct, frozen=True, kw_only=True):
    """Where the settings of a process come from, besides the defaults."""

    file: Path | None = None
    environment: Mapping[str, str] = {}
    overrides: Mapping[str, str] = {}

    def load(self, kind: type[S], section: str) -> S:
        """The settings of one section; see `load`."""
        return load(kind, section, file=self.file, environment=self.environment, overrides=self.overrides)

    def explain(self, kind: type[msgspec.Struct], section: str) -> list[Row]:
        """The same, told; see `explain`."""
        return explain(kind, section, file=self.file, environment=self.environment, overrides=self.overrides)

    def check(self, known: Iterable[str]) -> None:
        """Refuse sections that belong to nobody; see `check_sections`."""
        check_sections(known, file=self.file, environment=self.environment, overrides=self.overrides)


class Row(msgspec.Struct, frozen=True):
    """One line of `neap config explain`."""

    key: str
    value: str
    origin: str
    doc: str
    allowed: str


class Given(msgspec.Struct, frozen=True):
    """A value as found, and where; `written` is the key in the words of that place."""

    value: Any
    origin: str
    written: str


def process_environment() -> Mapping[str, str]:
    """The environment of this process."""
    return dict(os.environ)  # noqa: TID251


def load(
    kind: type[S], section: str, *, file: Path | None, environment: Mapping[str, str], overrides: Mapping[str, str]
) -> S:
    """The settings of one section. `overrides` are keyed "section.key"; other sections are left to others.

    Raises:
        SettingsError: names file or variable, key, value and what is allowed.
    """
    found = _collect(kind, section, file, environment, overrides)
    return _build(kind, section, (), None, found)


def explain(
    kind: type[msgspec.Struct],
    section: str,
    *,
    file: Path | None,
    environment: Mapping[str, str],
    overrides: Mapping[str, str],
) -> list[Row]:
    """Every setting of a section with its value, where that comes from, what it means and what is allowed."""
    found = _collect(kind, section, file, environment, overrides)
    settings = _build(kind, section, (), None, found)
    rows = []
    for leaf in leaves(kind):
        value: Any = settings
        for name in leaf.key:
            value = getattr(value, name)
        origin = found[leaf.key].origin if leaf.key in found else "default"
        rows.append(Row(".".join((section, *leaf.key)), leaf.write(value), origin, leaf.doc, leaf.allowed))
    return rows


def check_sections(
    known: Iterable[str], *, file: Path | None, environment: Mapping[str, str], overrides: Mapping[str, str]
) -> None:
    """Refuse sections that belong to nobody; `load` only looks at its own.

    Raises:
        SettingsError: names file or variable, the section and the nearest known one.
    """
    sections = set(known)
    places = [] if file is None else [(str(file), name) for name in _tables(file)]
    places += [(f"environment {name}", _section_of(name)) for name in sorted(environment) if _section_of(name)]
    places += [(f"--set {name}", name.split(".")[0]) for name in overrides]
    for where, name in places:
        if name not in sections:
            raise SettingsError(f"{where}: unknown section {name!r}{_nearest(name, sections)}")


def flattened(kind: type[msgspec.Struct], section: str, table: Mapping[str, Any], *, origin: str) -> dict[str, Any]:
    """Some settings as written, nested or dotted, by dotted key; an item of a table has a key of its own.

    Raises:
        SettingsError: an unknown key, or a value out of bounds; names origin, key and bound.
    """
    known = {leaf.key: leaf for leaf in _leaves(kind)}
    flat: dict[str, Any] = {}
    for path, given in _walk(table, (), known, origin):
        found: dict[Key, Given] = {}
        _place(path, given, known, found, section)
        for key, read in found.items():
            name, value = ".".join(key), msgspec.to_builtins(read.value)
            is_table = known[key].is_table and isinstance(value, dict)
            flat |= {f"{name}.{item}": each for item, each in value.items()} if is_table else {name: value}
    return flat


def patched(settings: S, section: str, flat: Mapping[str, Any], *, origin: str) -> S:
    """These settings with others over them, by dotted key, as `flattened` gives them.

    Raises:
        SettingsError: an unknown key, or a value out of bounds; names origin, key and bound.
    """
    found: dict[Key, Given] = {}
    known = {leaf.key: _standing(leaf, settings) for leaf in _leaves(type(settings))}
    for name, value in flat.items():
        _place(tuple(name.split(".")), Given(value, origin, name), known, found, section)
    return _build(type(settings), section, (), settings, found)


@lru_cache(maxsize=64)
def _leaves(kind: type[msgspec.Struct]) -> tuple[Leaf, ...]:
    """Without docs, and with empty tables: what is found in one was written."""
    return tuple(replace(leaf, default={}) if leaf.is_table else leaf for leaf in leaves(kind, told=False))


def _standing(leaf: Leaf, settings: msgspec.Struct) -> Leaf:
    """A table with what it holds now: a patch adds to it."""
    if not leaf.is_table:
        return leaf
    value: Any = settings
    for name in leaf.key:
        value = getattr(value, name)
    return replace(leaf, default=value)


def _section_of(variable: str) -> str:
    head, separator, _ = variable.removeprefix(PREFIX).partition("__")
    return head.lower() if separator and variable.startswith(PREFIX) else ""


def _tables(file: Path) -> dict[str, Any]:
    import tomllib  # noqa: PLC0415  only where there is a file

    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{file}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: not TOML: {error}") from None


def _collect(
    kind: type[msgspec.Struct],
    section: str,
    file: Path | None,
    environment: Mapping[str, str],
    overrides: Mapping[str, str],
) -> dict[Key, Given]:
    known = {leaf.key: leaf for leaf in leaves(kind)}
    found: dict[Key, Given] = {}
    given = [] if file is None else list(_from_file(file, section, known))
    prefix = f"{PREFIX}{section.upper()}__"
    for name in sorted(environment):
        if name.startswith(prefix):
            path = tuple(name.removeprefix(prefix).lower().split("__"))
            given.append((path, Given(environment[name], f"environment {name}", name)))
    for name, text in overrides.items():
        head, *path_below = name.split(".")
        if head == section:
            given.append((tuple(path_below), Given(text, f"--set {name}", name)))
    for path, value in given:
        _place(path, value, known, found, section)
    return found


def _from_file(file: Path, section: str, known: Mapping[Key, Leaf]) -> Iterator[tuple[Key, Given]]:
    yield from _walk(_tables(file).get(section, {}), (), known, f"{file} [{section}]")


def _walk(table: Any, path: Key, known: Mapping[Key, Leaf], origin: str) -> Iterator[tuple[Key, Given]]:
    """The values of a table by path; a group of settings is entered, a setting that is a table is not."""
    is_group = any(key[: len(path)] == path and len(key) > len(path) for key in known) or not path
    if is_group and isinstance(table, Mapping):
        for name, below in table.items():
            yield from _walk(below, (*path, *str(name).split(".")), known, origin)
    else:
        yield path, Given(table, origin, ".".join(path))


def _place(path: Key, given: Given, known: Mapping[Key, Leaf], found: dict[Key, Given], section: str) -> None:
    """Put one found value where it belongs; a path below a mapping becomes one item of it."""
    for depth in range(len(path), 0, -1):
        leaf = known.get(path[:depth])
        if leaf is not None and (depth == len(path) or leaf.is_table):
            value = given.value
            if depth < len(path):
                before = found[leaf.key].value if leaf.key in found else leaf.default
                value = {**(before if isinstance(before, dict) else {}), ".".join(path[depth:]): value}
            found[leaf.key] = Given(_checked(leaf, value, given), given.origin, given.written)
            return
    below = [".".join(key) for key in known if key[: len(path)] == path]
    if below:
        raise SettingsError(f"{given.origin}: {'.'.join((section, *path))} is a group: {', '.join(sorted(below))}")
    names = {".".join(key) for key in known}
    raise SettingsError(
        f"{given.origin}: unknown setting {given.written!r} of {section}{_nearest('.'.join(path), names)}"
    )


def _checked(leaf: Leaf, value: Any, given: Given) -> Any:
    try:
        return leaf.read(value)
    except InputError as error:
        raise SettingsError(f"{given.origin}: {'.'.join(leaf.key)} = {given.value!r}: {error}") from None


def _build(kind: type[S], section: str, at: Key, base: Any, found: Mapping[Key, Given]) -> S:
    values: dict[str, Any] = {}
    for field in fields(kind):
        key = (*at, field.name)
        default = default_of(field) if base is None else getattr(base, field.name)
        group = group_of(field.type)
        if group is not None:
            values[field.name] = _build(group, section, key, default if isinstance(default, group) else None, found)
        elif key in found:
            values[field.name] = found[key].value
        elif default is msgspec.NODEFAULT:
            variable = f"{PREFIX}{section.upper()}__{'__'.join(key).upper()}"
            raise SettingsError(f"{'.'.join((section, *key))} must be set (environment {variable}, or the file)")
        else:
            values[field.name] = default
    try:
        return kind(**values)
    except (NeapError, ValueError, TypeError) as error:
        origins = sorted({given.origin for key, given in found.items() if key[: len(at)] == at})
        raise SettingsError(f"{', '.join(origins) or 'defaults'}: {'.'.join((section, *at))}: {error}") from None


def _nearest(name: str, names: Iterable[str]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415  only for an error

    close = get_close_matches(name, sorted(names), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(sorted(names)[:30])}"
