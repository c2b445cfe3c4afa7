"""All that a cluster's neap must have and no repository may hold, as objects of Kubernetes: one table.

    neap-nkey-ROOM     secret, where the room runs    seed of its user of the bus
    neap-nats-users    config map                     their public halves, as variables of the server
    neap-nats-tls      secret                         certificate of the bus
    neap-gateway-tls   secret                         certificate of webhooks and metrics
    neap-authority     config map, both namespaces    who vouches for them

Pure: where keys come from is given. Source: nats-io/nkeys (encoding), RFC 4648 base 32; CRC-16/XMODEM.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from neap.common.kube.rbac import NAMESPACE
from neap.common.kube.users import ROOMS, key_variable
from neap.common.units import DAY, Seconds
from neap.gateway.core.keys.certificate import Party, certificate, pem, private_key

NODE_NAMESPACE: Final = "neap-node"
ON_HOSTS: Final = ("enforcer", "reporter")  # rooms in NODE_NAMESPACE
USERS, AUTHORITY = "neap-nats-users", "neap-authority"
LASTS: Final[Seconds] = 730 * DAY
SERVED: Final = {  # secret -> names its certificate is for
    "neap-nats-tls": ("neap-nats.neap-system.svc", "neap-nats.neap-system.svc.cluster.local", "*.neap-nats-servers.neap-system.svc", "localhost"),
    "neap-gateway-tls": ("neap-gateway.neap-system.svc", "neap-gateway.neap-system.svc.cluster.local", "localhost"),
}  # fmt: skip
_SEED, _USER = 18 << 3, 20 << 3  # the first bytes: so that texts begin with S and U


class Pair(Protocol):
    """An Ed25519 key pair."""

    seed: bytes
    public: bytes

    def sign(self, text: bytes) -> bytes:
        """The signature alone."""
        ...


@dataclass(frozen=True)
class Made:
    """One object to create. `settles`: once it is there, so is everything before it."""

    kind: str  # Secret, ConfigMap
    namespace: str
    name: str
    body: dict[str, Any]


def credentials(make: Callable[[], Pair], *, serial: Callable[[], int], at: Seconds) -> tuple[Made, ...]:
    """Everything, in the order in which it is to be created: what says that all is there comes last."""
    made, public = [], {}
    for room in ROOMS:
        pair = make()
        public[key_variable(room)] = nkey(pair.public)
        place = NODE_NAMESPACE if room in ON_HOSTS else NAMESPACE
        made.append(_secret(place, f"neap-nkey-{room}", {"seed": nkey_seed(pair.seed)}))
    root = make()
    issuer = Party("neap authority", root.public)
    vouched = pem("CERTIFICATE", certificate(issuer, issuer, root.sign, serial=serial(), at=at, lasts=LASTS))
    for name, names in SERVED.items():
        own = make()
        leaf = certificate(
            Party(names[0], own.public), issuer, root.sign, serial=serial(), at=at, lasts=LASTS, names=names
        )
        content = {
            "tls.crt": pem("CERTIFICATE", leaf),
            "tls.key": pem("PRIVATE KEY", private_key(own.seed)),
            "ca.crt": vouched,
        }
        made.append(_secret(NAMESPACE, name, content, "kubernetes.io/tls"))
    made.append(_config_map(NODE_NAMESPACE, AUTHORITY, {"ca.crt": vouched}))
    made.append(_config_map(NAMESPACE, USERS, public))
    made.append(_config_map(NAMESPACE, AUTHORITY, {"ca.crt": vouched}))
    return tuple(made)


def nkey(public: bytes) -> str:
    """The public half of a user's key: U..."""
    return _checked(bytes([_USER]) + public)


def nkey_seed(seed: bytes) -> str:
    """The secret half: SU..."""
    return _checked(bytes([_SEED | _USER >> 5, (_USER & 31) << 3]) + seed)


def _checked(content: bytes) -> str:
    check = binascii.crc_hqx(content, 0).to_bytes(2, "little")
    return base64.b32encode(content + check).decode().rstrip("=")


def _secret(namespace: str, name: str, content: dict[str, str], type: str = "Opaque") -> Made:
    return Made("Secret", namespace, name, {"type": type, "stringData": content, "immutable": True, **_named(name)})


def _config_map(namespace: str, name: str, content: dict[str, str]) -> Made:
    return Made("ConfigMap", namespace, name, {"data": content, **_named(name)})


def _named(name: str) -> dict[str, Any]:
    labels = {"app.kubernetes.io/part-of": "neap", "app.kubernetes.io/managed-by": "neap-keys"}
    return {"metadata": {"name": name, "labels": labels}}
