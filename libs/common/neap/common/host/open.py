"""From a setting to a host: "/" or a directory is real, "virtual:///path/to.sock" is served by another process."""

from __future__ import annotations

from typing import Final

from neap.common.errors import SettingsError
from neap.common.host.port import HostFs
from neap.common.host.real import RealHost
from neap.common.host.remote import RemoteHost

VIRTUAL: Final = "virtual://"


def open_host(spec: str, node: str) -> HostFs:
    """The host a service is to see.

    Raises:
        SettingsError: neither an absolute directory nor a virtual:// socket.
    """
    if spec.startswith(VIRTUAL):
        path = spec.removeprefix(VIRTUAL)
        if not path.startswith("/") or not node:
            raise SettingsError(f"host={spec!r} node={node!r}: a virtual host needs an absolute socket path and a node")
        return RemoteHost(path, node)
    if not spec.startswith("/"):
        raise SettingsError(f"host={spec!r}: allowed are an absolute directory or {VIRTUAL}/path/to.sock")
    return RealHost(spec)
