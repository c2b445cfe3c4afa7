"""Make the keys and certificates of a cluster's neap, once: the job in deploy/k8s/components/keys.

python -m neap.gateway.shell.keys [--kubeconfig FILE]

It creates and never reads secrets. Of two runs the second changes nothing; one that was cut off in the middle cannot be
continued, since nobody knows the keys made so far, and says what to delete. At the end the authority is written into
the webhooks and the metrics APIs, as far as they are there, so that the API server trusts the gateway.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import secrets
import sys
from collections.abc import Sequence
from typing import Any, Final

from nacl.signing import SigningKey

from neap.common.errors import Conflict, NeapError, Vanished
from neap.common.kube.kind import Kind
from neap.common.kube.objects import Metadata, Narrow, Whatever
from neap.common.kube.port import Kube, PatchStyle
from neap.common.kube.rbac import NAMESPACE
from neap.common.runtime.clock import wall_clock
from neap.common.units import Seconds
from neap.gateway.core.keys.credentials import AUTHORITY, USERS, credentials
from neap.gateway.shell.http import connect


class ConfigMap(Narrow, frozen=True, kw_only=True):
    """Public texts."""

    metadata: Metadata = Metadata()
    data: dict[str, str] | None = None


SECRETS: Final = Kind("", "v1", "secrets", "Secret", Whatever)
CONFIG_MAPS: Final = Kind("", "v1", "configmaps", "ConfigMap", ConfigMap)
_ADMISSION, _REGISTRATION = "admissionregistration.k8s.io", "apiregistration.k8s.io"
MUTATING: Final = Kind(
    _ADMISSION, "v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration", Whatever, namespaced=False
)
VALIDATING: Final = Kind(
    _ADMISSION, "v1", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration", Whatever, namespaced=False
)
API_SERVICES: Final = Kind(_REGISTRATION, "v1", "apiservices", "APIService", Whatever, namespaced=False)
METRICS: Final = ("v1beta1.external.metrics.k8s.io", "v1beta1.custom.metrics.k8s.io", "v1beta2.custom.metrics.k8s.io")


class Pair:
    """A fresh Ed25519 key pair."""

    def __init__(self) -> None:
        self._key = SigningKey.generate()
        self.seed, self.public = bytes(self._key), bytes(self._key.verify_key)

    def sign(self, text: bytes) -> bytes:
        """The signature alone."""
        return bytes(self._key.sign(text).signature)


async def ensure(kube: Kube, at: Seconds) -> bool:
    """Make what is missing; whether something was.

    Raises:
        Conflict: a run before was cut off; says what to delete.
        PortError: the API says no.
    """
    is_made = await _authority(kube) is None
    if is_made:
        for one in credentials(Pair, serial=lambda: secrets.randbits(120) | 1, at=at):
            kind: Kind[Any] = SECRETS if one.kind == "Secret" else CONFIG_MAPS
            try:
                await kube.create(kind, one.body, namespace=one.namespace)
            except Conflict:
                raise Conflict(
                    f"{one.kind} {one.namespace}/{one.name} is there, but {NAMESPACE}/{AUTHORITY} is not: a run was cut "
                    f"off. Delete all with kubectl delete secret,configmap -A -l app.kubernetes.io/managed-by=neap-keys"
                ) from None
    authority = await _authority(kube)
    if authority is not None:
        await _tell(kube, authority)
    return is_made


async def _authority(kube: Kube) -> str | None:
    try:
        found = await kube.get(CONFIG_MAPS, AUTHORITY, namespace=NAMESPACE)
    except Vanished:
        return None
    return (found.data or {}).get("ca.crt")


async def _tell(kube: Kube, authority: str) -> None:
    """Write the authority where the API server looks for it."""
    bundle = base64.b64encode(authority.encode()).decode()
    hook = [{"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": bundle}]
    service = {"spec": {"caBundle": bundle}}
    for kind, name in ((MUTATING, "neap"), (VALIDATING, "neap"), *((API_SERVICES, name) for name in METRICS)):
        is_service = kind is API_SERVICES
        style = PatchStyle.MERGE if is_service else PatchStyle.JSON
        try:
            await kube.patch(kind, name, service if is_service else hook, style=style)
        except Vanished:
            continue  # this cluster has none


async def _run(kubeconfig: str) -> None:
    kube = await connect(kubeconfig=kubeconfig)
    try:
        was_missing = await ensure(kube, wall_clock().now())
    finally:
        await kube.close()
    made = "made" if was_missing else "there already"
    sys.stdout.write(
        f"keys and certificates: {made} ({NAMESPACE}/{USERS}, {NAMESPACE}/{AUTHORITY} and their secrets)\n"
    )


def main(argv: Sequence[str]) -> int:
    """See module docstring."""
    parser = argparse.ArgumentParser(prog="neap-keys", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kubeconfig", default="", help="default: as a pod, or as kubectl does")
    asked = parser.parse_args(argv)
    try:
        asyncio.run(_run(asked.kubeconfig))
    except NeapError as error:
        sys.stderr.write(f"neap-keys: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
