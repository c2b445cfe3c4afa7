"""The errors of neap.

NeapError
├── SettingsError   a setting is unknown or out of bounds: names file, key, value, what is allowed
├── InputError      something from outside does not hold: names what and where
├── WireError       a message cannot be decoded: names subject and reason
└── PortError       bus, host or API said no: names what was attempted and on what
    ├── Unavailable     nobody there now; trying again may help
    ├── NoResponder     a request reached nobody
    ├── Denied          the right is missing; trying again will not help
    ├── StaleRevision   a STATE key changed since it was read
    └── Vanished        a file or cgroup is gone

Expected outcomes (a lost race, "does not fit") are values, not errors.
"""

from __future__ import annotations


class NeapError(Exception):
    """Anything neap raises on purpose."""


class SettingsError(NeapError):
    """A setting is unknown, malformed or out of bounds."""


class InputError(NeapError):
    """Input from outside does not hold; the text names what and where."""


class WireError(NeapError):
    """A message cannot be decoded or encoded."""


class PortError(NeapError):
    """The outside said no: what was attempted, on what, and why."""


class Unavailable(PortError):
    """Nobody answers at the moment; a later attempt may succeed."""


class NoResponder(PortError):
    """A request was delivered to nobody."""


class Denied(PortError):
    """The right is missing; a later attempt will not succeed either."""


class StaleRevision(PortError):
    """A STATE key was written by somebody else since its revision was read."""


class Vanished(PortError):
    """A file, cgroup or device is gone."""
