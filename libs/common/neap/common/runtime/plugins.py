"""Plugins: one file = one policy; the folder is the registry.

    PLUGINS = load("neap.advisor.plugins", AdvicePolicy, group="neap.advisor.plugins")

Every module of the package that does not start with "_" is imported in name order and must have a constant
PLUGIN of the asked shape. Its file name is the plugin's name, configuration key and metric label. With `group`,
installed distributions add theirs by an entry point of that group (to a module with PLUGIN, or to the object).
Order and weight come from settings only, never from here.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from types import MappingProxyType, ModuleType
from typing import Any, Final, TypeVar, cast

from neap.common.errors import SettingsError

P = TypeVar("P")
CONSTANT: Final = "PLUGIN"


def load(package: str, kind: Callable[..., P], *, group: str = "") -> Mapping[str, P]:
    """Name -> plugin, sorted by name.

    Args:
        package: dotted name of the folder.
        kind: a runtime_checkable Protocol (as `type[P]`, mypy would refuse a Protocol).
        group: entry points of installed distributions; empty: none.

    Raises:
        SettingsError: names the file that has no PLUGIN, one of the wrong shape, or a name taken twice.
    """
    shape, found, places = cast("type[Any]", kind), dict[str, P](), dict[str, str]()
    for name, where, plugin in (*_in_folder(package), *_by_entry_point(group)):
        if name in found:
            raise SettingsError(f"{where}: a plugin named {name!r} is already there, in {places[name]}")
        if not isinstance(plugin, shape):
            lacking = ", ".join(sorted(member for member in _members(shape) if not hasattr(plugin, member)))
            raise SettingsError(f"{where}: {CONSTANT} is no {shape.__name__}: it lacks {lacking or 'its type'}")
        found[name], places[name] = plugin, where
    return MappingProxyType({name: found[name] for name in sorted(found)})


def _in_folder(package: str) -> Iterator[tuple[str, str, Any]]:
    folder = import_module(package)
    for name in sorted(module.name for module in pkgutil.iter_modules(folder.__path__)):
        if not name.startswith("_"):
            module = import_module(f"{package}.{name}")
            yield name, module.__file__ or module.__name__, _constant(module)


def _by_entry_point(group: str) -> Iterator[tuple[str, str, Any]]:
    if not group:
        return
    from importlib.metadata import entry_points  # noqa: PLC0415  4 MiB, only for those who ask

    for point in sorted(entry_points(group=group)):
        where = f"entry point {point.name} = {point.value} of {point.dist.name if point.dist else group}"
        try:
            target = point.load()
        except (ImportError, AttributeError) as error:
            raise SettingsError(f"{where}: {error}") from error
        yield point.name, where, _constant(target) if isinstance(target, ModuleType) else target


def _constant(module: ModuleType) -> Any:
    try:
        return getattr(module, CONSTANT)
    except AttributeError:
        raise SettingsError(f"{module.__file__ or module.__name__}: no constant {CONSTANT}") from None


def _members(kind: type) -> set[str]:
    """What a Protocol asks for: annotated attributes and methods without leading underscore."""
    names: set[str] = set()
    for owner in kind.__mro__[:-1]:
        if owner.__module__ != "typing":
            names |= {*vars(owner), *vars(owner).get("__annotations__", {})}
    return {name for name in names if not name.startswith("_")}
