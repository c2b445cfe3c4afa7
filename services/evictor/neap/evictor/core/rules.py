"""Which rules are asked, in which order, with which settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from neap.common.errors import SettingsError
from neap.evictor.core.rule import Rule, RuleSettings
from neap.evictor.settings import Settings

Asked: TypeAlias = dict[str, tuple[Rule, RuleSettings]]


def asked_rules(rules: Mapping[str, Rule], settings: Settings) -> Asked:
    """The rules in the order they are asked, each with its settings.

    Raises:
        SettingsError: a rule is named that is not there.
    """
    for key, names in (("order", settings.order), ("off", settings.off)):
        for name in names:
            if name not in rules:
                raise SettingsError(f"evictor.{key}: no rule named {name!r} (known: {', '.join(rules)})")
    names = (*settings.order, *(name for name in rules if name not in settings.order))
    return {
        name: (rules[name], getattr(settings, name, None) or rules[name].settings())
        for name in names
        if name not in settings.off
    }
