"""The images: where none can be pulled, all are made on this machine.

    base    a small Debian with Python, and the certificates this machine trusts, so that a build works behind a mirror
    nats    stands in for the image of others: the nats-server of our Python environment on the base
    rooms   what compose.yaml builds

BASE_IMAGE and NATS_IMAGE in the environment name others, which are then not made.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import tempfile
from pathlib import Path

from neap.common.testing.natsd import find_server
from tests.conftest import missing
from tests.e2e.engine import CommandFailed, Engine

SUITE = "bookworm"
PACKAGES = "python3,python3-venv,ca-certificates,wget"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
LEFT_OUT = ("./var/cache/apt", "./var/lib/apt/lists", "./usr/share/doc", "./usr/share/man", "./usr/share/locale")
ATTEMPTS = 3  # at reaching the mirror
MIRRORS = (
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "PIP_INDEX_URL", "UV_DEFAULT_INDEX",
)  # fmt: skip


def base_image(engine: Engine) -> str:
    """The name of a base image; made once per recipe and set of certificates, in a minute."""
    if given := os.environ.get("BASE_IMAGE"):
        return given
    certificates = CERTIFICATES.read_bytes() if CERTIFICATES.is_file() else b""
    tag = f"neap-base:{_digest(SUITE.encode(), PACKAGES.encode(), certificates)}"
    if not engine.has_image(tag):
        if os.geteuid() != 0 or shutil.which("debootstrap") is None:
            missing("BASE_IMAGE, or root with debootstrap to make one")
        with tempfile.TemporaryDirectory(prefix="neap-base-") as folder:
            root = _install(engine, Path(folder))
            if certificates:
                (root / CERTIFICATES.relative_to("/")).write_bytes(certificates)
            left_out = shlex.join(f"--exclude={path}" for path in LEFT_OUT)
            packed = f"set -o pipefail; tar -C {shlex.quote(str(root))} {left_out} -c . | docker import - {tag}"
            engine.run("bash", "-c", packed, within=180)
    return tag


def _install(engine: Engine, folder: Path) -> Path:
    """A root of the packages; a mirror may hiccup, so a few attempts."""
    for attempt in range(ATTEMPTS):
        root = folder / str(attempt)
        try:
            engine.run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(root), within=300)
        except CommandFailed:
            if attempt + 1 == ATTEMPTS:
                raise
        else:
            break
    return root


def nats_image(engine: Engine, base: str) -> str:
    """The name of an image with nats-server on its path, as the official one has."""
    if given := os.environ.get("NATS_IMAGE"):
        return given
    server = Path(find_server())
    tag = f"neap-nats:{_digest(base.encode(), server.read_bytes())}"
    if not engine.has_image(tag):
        with tempfile.TemporaryDirectory(prefix="neap-nats-image-") as folder:
            shutil.copy(server, Path(folder) / "nats-server")
            recipe = f'FROM {base}\nCOPY nats-server /usr/local/bin/\nENTRYPOINT ["nats-server"]\n'
            (Path(folder) / "Dockerfile").write_text(recipe)
            engine.run("docker", "build", "--tag", tag, folder, within=120, also={"DOCKER_BUILDKIT": "0"})
    return tag


def mirror_arguments() -> list[str]:
    """What leads a build to this machine's mirrors and proxies, where the environment names some."""
    return [part for name in MIRRORS if name in os.environ for part in ("--build-arg", name)]


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]
