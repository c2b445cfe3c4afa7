"""What the lab boots: the system (system.py), and on top of it this checkout, packed anew for every run in a second."""

from __future__ import annotations

import compileall
import shutil
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.conftest import ROOT, missing
from tests.lab.system import BUILD, PYTHON, pack, system

NEEDED: Final = (
    "_pytest", "google", "googleapis_common_protos", "iniconfig", "msgspec", "nacl", "nats", "nkeys", "opentelemetry",
    "packaging", "pluggy", "pluggy-*.dist-info", "prometheus_client", "py.py", "pygments", "pytest", "requests", "structlog", "typing_extensions.py",
    "uvloop", "yaml",
)  # fmt: skip


@dataclass(frozen=True)
class Image:
    """What QEMU is given."""

    kernel: Path
    initrd: Path
    version: str


def build() -> Image:
    """The image of this checkout."""
    if f"python{sys.version_info.major}.{sys.version_info.minor}" != PYTHON:
        missing(f"a virtual environment made with {PYTHON}, the Python of the lab's system,")
    made = system()
    initrd, code = BUILD / "initrd.cpio", BUILD / "code.cpio"
    _pack_code(made, code)
    with initrd.open("wb") as joined:
        for part in (made / "system.cpio", code):
            with part.open("rb") as archive:
                shutil.copyfileobj(archive, joined)
    return Image(made / "vmlinuz", initrd, (made / "version").read_text().strip())


def _pack_code(made: Path, archive: Path) -> None:
    """Packages, rooms and scenarios below /neap, compiled here: a machine in emulation compiles slowly."""
    site = Path(sys.executable).parent.parent / "lib" / PYTHON / "site-packages"
    with tempfile.TemporaryDirectory(prefix="code-", dir=BUILD) as scratch:
        home = Path(scratch) / "neap"
        _copy(site, (found.name for name in NEEDED for found in site.glob(name)), home / "site")
        _copy(ROOT, ("libs", "services", "tests/lab", "tests/conftest.py", "pyproject.toml"), home / "main")
        server = Path(sys.executable).parent / "nats-server"
        if server.is_file():
            shutil.copy(server, home / "nats-server")
        compileall.compile_dir(home, quiet=2, workers=0, stripdir=scratch)
        pack(Path(scratch), archive, made / "busybox")


def _copy(source: Path, names: Iterable[str], target: Path) -> None:
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyi"))
        else:
            shutil.copy(source / name, target / name)
