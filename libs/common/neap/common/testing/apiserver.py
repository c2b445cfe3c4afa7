"""A real Kubernetes API server, with its etcd, as child processes: for tests.

    async with ApiServer(users={"tester": ()}) as server:
        kube = await connect(kubeconfig=server.kubeconfig)

No controllers, no scheduler, no kubelets: pods stay as they were made until the test says what became of them. Whatever
needs a controller is off (service account tokens, quotas, taints of new nodes); role-based access, budgets, webhooks,
priorities, own kinds and pod security are on. Programs are those of `make kube-assets`.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
import signal
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from neap.common.errors import PortError, Unavailable
from neap.common.units import Seconds

KUBERNETES: Final = "1.35.4"  # as pinned in tests/kube/assets/go.mod
WHY_NOT: Final = "why-not"  # written by tests/kube/assets/build
ADMIN: Final = "admin"
READY: Final[Seconds] = 240.0  # it takes 4 s; a loaded machine may take its time
ASKED: Final[Seconds] = 5.0  # how long one question may take while it starts
READY_WITH: Final = ("/readyz", "/api/v1/namespaces/default")  # which is made a moment after it says it is ready
NAP: Final[Seconds] = 0.05
GRACE: Final[Seconds] = 10.0
DEAD: Final[Seconds] = 30.0  # after SIGKILL
COMPLAINTS: Final = 3  # lines of a log that go into an error
NEEDS_CONTROLLERS: Final = (
    "ServiceAccount", "ResourceQuota", "LimitRanger", "TaintNodesByCondition", "DefaultStorageClass",
    "DefaultIngressClass", "PersistentVolumeClaimResize", "StorageObjectInUseProtection", "RuntimeClass",
    "CertificateApproval", "CertificateSigning", "CertificateSubjectRestriction",
)  # fmt: skip
ETCD: Final = ("--unsafe-no-fsync", "--log-level=error", "--auto-compaction-retention=0", "--snapshot-count=100000")
SERVER: Final = (
    "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none",
    "--authorization-mode=RBAC", "--allow-privileged=true", "--service-cluster-ip-range=10.0.0.0/24",
    "--service-account-issuer=https://kubernetes.default.svc", "--profiling=false",
    "--etcd-compaction-interval=0", f"--disable-admission-plugins={','.join(NEEDS_CONTROLLERS)}",
)  # fmt: skip


def find_assets() -> Path:
    """The folder with etcd, kube-apiserver and kubectl: $KUBEBUILDER_ASSETS, or where `make kube-assets` leaves them.

    Raises:
        PortError: one of them is not there.
    """
    folder = assets_folder()
    for name in ("etcd", "kube-apiserver", "kubectl"):
        if not os.access(folder / name, os.X_OK):
            reason = folder / WHY_NOT
            why = reason.read_text().strip() if reason.exists() else "make kube-assets builds it"
            raise PortError(f"there is no {name} in {folder} ({why})")
    return folder


def assets_folder() -> Path:
    """Where they are looked for; the file WHY_NOT in it says why they could not be built."""
    told = os.environ.get("KUBEBUILDER_ASSETS")  # noqa: TID251  everybody who tests against an API server uses this one
    return Path(told) if told else Path.home() / ".cache" / "neap" / f"kube-{KUBERNETES}"


class ApiServer:
    """See module docstring.

    Args:
        users: beside `admin`, who may do everything: names and the groups they are in. A service account is called
            system:serviceaccount:NAMESPACE:NAME.
        flags: further arguments of kube-apiserver.
    """

    def __init__(self, *, users: Mapping[str, Sequence[str]] | None = None, flags: Sequence[str] = ()) -> None:
        groups = {**(users or {}), ADMIN: ("system:masters",)}
        self._users = {name: (secrets.token_urlsafe(24), groups[name]) for name in groups}
        self._home = tempfile.TemporaryDirectory(prefix="neap-kube-")
        self._held = [_hold_port() for _ in range(3)]  # kept while a server is away: restarts find them free
        self._store, self._peer, self.port = (held.getsockname()[1] for held in self._held)
        self._flags = tuple(flags)
        self._etcd: subprocess.Popen[bytes] | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._assets = Path()

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def ca(self) -> str:
        """The file with the certificates to trust."""
        return str(self._path("certificates/apiserver.crt"))

    @property
    def kubeconfig(self) -> str:
        """The admin's kubeconfig file."""
        return self.kubeconfig_of(ADMIN)

    @property
    def pid(self) -> int:
        """The API server's process, 0 when it does not run."""
        return self._server.pid if self._server is not None and self._server.poll() is None else 0

    def token(self, user: str = ADMIN) -> str:
        """What proves to be this user."""
        return self._users[user][0]

    def kubeconfig_of(self, user: str) -> str:
        """A kubeconfig file of one user."""
        path = self._path(f"{user.replace(':', '_')}.kubeconfig")
        if not path.exists():
            cluster = {"server": self.url, "certificate-authority": self.ca}
            path.write_text(json.dumps({
                "apiVersion": "v1", "kind": "Config", "current-context": "test",
                "clusters": [{"name": "test", "cluster": cluster}],
                "users": [{"name": user, "user": {"token": self.token(user)}}],
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
            }))  # fmt: skip
        return str(path)

    async def kubectl(self, *arguments: str, user: str = ADMIN, said: str = "", within: Seconds = READY) -> str:
        """What kubectl answers; `said` is its standard input.

        Raises:
            PortError: it failed; with its words.
        """
        process = await asyncio.create_subprocess_exec(
            str(self._assets / "kubectl"), f"--kubeconfig={self.kubeconfig_of(user)}", *arguments,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={"HOME": self._home.name},
        )  # fmt: skip
        try:
            async with asyncio.timeout(within):
                answer, complaint = await process.communicate(said.encode())
        except TimeoutError:
            raise Unavailable(f"kubectl {' '.join(arguments)}: no answer in {within:g} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            raise PortError(f"kubectl {' '.join(arguments)}: {complaint.decode(errors='replace').strip()}")
        return answer.decode()

    # -- life

    async def start(self) -> Self:
        """Start what does not run, and return once it is ready.

        Raises:
            PortError: a program is missing or ended at once; with its log's last words.
        """
        self._assets = find_assets()
        async with AsyncExitStack() as undo:
            undo.push_async_callback(self._abandon)
            if self._etcd is None:
                self._write_secrets()
                self._etcd = self._launch("etcd", *ETCD, *self._etcd_flags())
            if self._server is None:
                self._server = self._launch("kube-apiserver", *SERVER, *self._server_flags(), *self._flags)
            try:
                async with asyncio.timeout(READY):
                    while not await self._ready():  # noqa: ASYNC110  nothing announces it
                        await asyncio.sleep(NAP)
            except TimeoutError:
                raise Unavailable(f"kube-apiserver: not ready in {READY:g} s: {self._last()}") from None
            undo.pop_all()
        return self

    async def kill(self) -> None:
        """SIGKILL the API server, as a crash would; etcd stays. `start` brings it back, on the same port."""
        self._end(self._server)
        self._server = None

    async def restart(self, *, kill: bool = False, away: Seconds = 0.0) -> None:
        """End the API server, stay away for a while, and start it again."""
        if not kill:
            await self._ask_to_end(self._server)
        await self.kill()
        await asyncio.sleep(away)
        await self.start()

    async def forget(self) -> None:
        """Let the past be forgotten: compact etcd at the newest revision, and let the server start with empty caches."""
        status = json.loads(await self._ask_etcd("/v3/maintenance/status", {}))
        await self._ask_etcd("/v3/kv/compaction", {"revision": status["header"]["revision"], "physical": True})
        await self.restart(kill=True)

    def freeze(self) -> None:
        """It answers nothing any more, and all connections stay open, until `thaw`."""
        if self._server is not None:
            self._server.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        if self._server is not None:
            self._server.send_signal(signal.SIGCONT)

    async def __aenter__(self) -> Self:
        """Start."""
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End both."""
        await self.close()

    async def close(self) -> None:
        """End both, at once: nobody needs what they hold."""
        await self._abandon()
        for held in self._held:
            held.close()
        self._home.cleanup()

    # -- how

    async def _abandon(self) -> None:
        await self.kill()
        self._end(self._etcd)
        self._etcd = None

    @staticmethod
    def _end(process: subprocess.Popen[bytes] | None) -> None:
        if process is not None:
            process.kill()
            process.wait(DEAD)

    @staticmethod
    async def _ask_to_end(process: subprocess.Popen[bytes] | None) -> None:
        if process is not None:
            process.terminate()
            with suppress(TimeoutError):
                async with asyncio.timeout(GRACE):
                    while process.poll() is None:  # noqa: ASYNC110
                        await asyncio.sleep(NAP)

    def _path(self, name: str) -> Path:
        return Path(self._home.name) / name

    def _write_secrets(self) -> None:
        """A key for service accounts, and everybody's token."""
        self._path("accounts.key").write_text(_signing_key())
        lines = [
            f"{json.dumps(token)},{json.dumps(name)},{json.dumps(name)},{json.dumps(','.join(groups))}"
            for name, (token, groups) in self._users.items()
        ]
        self._path("tokens.csv").write_text("\n".join(lines) + "\n")

    def _etcd_flags(self) -> list[str]:
        peer, clients = f"http://127.0.0.1:{self._peer}", f"http://127.0.0.1:{self._store}"
        return [
            f"--data-dir={self._path('etcd')}", f"--listen-client-urls={clients}", f"--advertise-client-urls={clients}",
            f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=default={peer}",
        ]  # fmt: skip

    def _server_flags(self) -> list[str]:
        key = self._path("accounts.key")
        return [
            f"--secure-port={self.port}", f"--etcd-servers=http://127.0.0.1:{self._store}",
            f"--cert-dir={self._path('certificates')}", f"--token-auth-file={self._path('tokens.csv')}",
            f"--service-account-key-file={key}", f"--service-account-signing-key-file={key}",
        ]  # fmt: skip

    def _launch(self, program: str, *flags: str) -> subprocess.Popen[bytes]:
        with self._path(f"{program}.log").open("ab") as log:
            return subprocess.Popen(  # noqa: S603  our own arguments
                [str(self._assets / program), *flags],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=self._home.name,
            )  # fmt: skip

    async def _ready(self) -> bool:
        for name, process in (("etcd", self._etcd), ("kube-apiserver", self._server)):
            if process is None or process.poll() is not None:
                raise PortError(f"{name} ended at once: {self._last(name)}")
        try:
            trust = ssl.create_default_context(cafile=self.ca)
            answers = [await _ask(self.port, trust, "GET", path, self.token()) for path in READY_WITH]
        except (OSError, TimeoutError, ValueError):  # no certificate yet, nobody listens, half an answer
            return False
        return all(answer.startswith(b"HTTP/1.1 200") for answer in answers)

    async def _ask_etcd(self, path: str, body: dict[str, object]) -> str:
        answer = await _ask(self._store, None, "POST", path, "", json.dumps(body).encode())
        head, _, rest = answer.decode().partition("\r\n\r\n")
        if " 200 " not in head.splitlines()[0]:
            raise PortError(f"etcd: {path}: {head.splitlines()[0]}: {rest}")
        return rest

    def _last(self, program: str = "kube-apiserver") -> str:
        path = self._path(f"{program}.log")
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        return " | ".join(line.strip() for line in lines[-COMPLAINTS:]) or "it said nothing"


def _hold_port() -> socket.socket:
    """A port that is nobody else's: bound and not listening, so that the server may still listen on it (on Linux)."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    return held


def _signing_key() -> str:
    """A private key on the curve P-256: any number below the curve's order will do (RFC 5915, without the optional public key)."""
    number = 1 + secrets.randbelow(2**255)
    der = bytes.fromhex("30310201010420") + number.to_bytes(32, "big") + bytes.fromhex("a00a06082a8648ce3d030107")
    return f"-----BEGIN EC PRIVATE KEY-----\n{base64.b64encode(der).decode()}\n-----END EC PRIVATE KEY-----\n"


async def _ask(port: int, trust: ssl.SSLContext | None, method: str, path: str, token: str, body: bytes = b"") -> bytes:
    """One question over HTTP, without a client: testing has none."""
    async with asyncio.timeout(ASKED):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust)
        try:
            head = (
                f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
            )
            credentials = f"Authorization: Bearer {token}\r\n" if token else ""
            writer.write(f"{head}{credentials}\r\n".encode() + body)
            return await reader.read()
        finally:
            writer.transport.abort()
