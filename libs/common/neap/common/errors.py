"""The errors of neap.

NeapError
├── SettingsError   a setting is unknown or out of bounds: names file, key, value, what is allowed
├── InputError      something from outside does not hold: names what and where
├── WireError       a message cannot be decoded: names subject and reason
└── PortError       bus, host or API said no: names what was attempted and on what
    ├── Unavailable     nobody there now; trying again may help
    │   ├── Throttled       it has too much to do: not before `after` seconds
    │   └── Unreached       no connection: what was asked certainly never left
    ├── NoResponder     a request reached nobody
    ├── Denied          the right is missing; trying again will not help
    ├── StaleRevision   a STATE key changed since it was read
    ├── Vanished        a file, a cgroup or an object is gone
    ├── Conflict        an object exists already, changed since it was read, or is bound to somebody else
    ├── Expired         that much of the past is not kept any more: read everything anew
    └── Rejected        the request itself does not hold

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


class Unreached(Unavailable):
    """No connection could be made: whatever was asked was not sent, and may be asked again."""


class NoResponder(PortError):
    """A request was delivered to nobody."""


class Denied(PortError):
    """The right is missing; a later attempt will not succeed either."""


class StaleRevision(PortError):
    """A STATE key was written by somebody else since its revision was read."""


class Vanished(PortError):
    """A file, cgroup, device or object is gone."""


class Throttled(Unavailable):
    """It answers, and has too much to do; `after` is how long to wait, in seconds, if it said so."""

    def __init__(self, text: str, after: float = 0.0) -> None:
        super().__init__(text)
        self.after = after


class Conflict(PortError):
    """An object exists already, changed since it was read, or belongs to somebody else."""


class Expired(PortError):
    """A version of the past is not kept any more; everything must be read anew."""


class Rejected(PortError):
    """The request itself does not hold; a later attempt will not succeed either."""
