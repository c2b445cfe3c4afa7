"""The system of the lab: Debian's kernel, and an archive that the kernel unpacks into its first root.

Python, busybox and the modules of our devices, from Debian's packages: unpacked, not configured, and not installed on
this machine. Made once per recipe (this file and `init`), in half a minute.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from tests.conftest import ROOT, missing

LAB: Final = Path(__file__).resolve().parent
BUILD: Final = ROOT / "build" / "lab"
SUITE: Final = "bookworm"
PYTHON: Final = "python3.11"  # of the suite
PACKAGES: Final = ("python3", "busybox-static", "linux-image-amd64")
MODULES: Final = ("virtio_pci", "virtio_net", "e1000e", "nvme", "ext4", "crc32c_generic")
LEFT_OUT: Final = (
    "boot", "usr/lib/modules", "usr/share", "usr/lib/x86_64-linux-gnu/perl-base", "usr/lib/udev",
    "usr/lib/x86_64-linux-gnu/gconv", "usr/bin/perl", "usr/lib/python3.11/test", "usr/lib/systemd", "usr/sbin",
)  # fmt: skip
ATTEMPTS: Final = 3  # at reaching the mirror


def system() -> Path:
    """The folder of kernel and system archive."""
    recipe = hashlib.sha256(Path(__file__).read_bytes() + (LAB / "init").read_bytes()).hexdigest()[:12]
    made = BUILD / f"system-{recipe}"
    if not (made / "version").is_file():
        if os.geteuid() != 0 or shutil.which("debootstrap") is None:
            missing("root with debootstrap, to make the lab's image,")
        for old in BUILD.glob("system-*"):
            shutil.rmtree(old)
        made.mkdir(parents=True)
        with tempfile.TemporaryDirectory(prefix="lab-", dir=BUILD) as scratch:
            _make_system(Path(scratch), made)
    return made


def _make_system(scratch: Path, made: Path) -> None:
    root = scratch / "root"
    for folder in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / folder).mkdir(parents=True)
        (root / folder).symlink_to(f"usr/{folder}")
    for package in sorted(_download(scratch / "packages").glob("*.deb")):
        run("sh", "-c", 'dpkg-deb --fsys-tarfile "$1" | tar -C "$2" -x --keep-directory-symlink', "-", package, root)
    [kernel] = (root / "boot").glob("vmlinuz-*")
    version = kernel.name.removeprefix("vmlinuz-")
    shutil.copy(kernel, made / "vmlinuz")
    shutil.copy(root / "usr/bin/busybox", made / "busybox")
    modules = _modules(root, version, scratch / "modules", made / "busybox")
    for path in LEFT_OUT:
        shutil.rmtree(root / path, ignore_errors=True)
        (root / path).unlink(missing_ok=True)
    shutil.copytree(modules, root / "usr/lib/modules" / version)
    for folder in ("proc", "sys", "dev", "run", "tmp", "mnt"):
        (root / folder).mkdir(exist_ok=True)
    shutil.copy(LAB / "init", root / "init")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
    run("chroot", root, f"/usr/bin/{PYTHON}", "-m", "compileall", "-q", "-x", "lib2to3", f"/usr/lib/{PYTHON}")
    pack(root, made / "system.cpio", made / "busybox")
    (made / "version").write_text(f"{version}\n")


def _download(folder: Path) -> Path:
    """The packages with all they depend on; a mirror may hiccup, so a few attempts."""
    words = ["debootstrap", "--variant=minbase", "--download-only", f"--include={','.join(PACKAGES)}", SUITE, folder]
    for attempt in range(ATTEMPTS):
        try:
            run(*words)
        except RuntimeError:
            if attempt + 1 == ATTEMPTS:
                raise
        else:
            break
    return folder / "var/cache/apt/archives"


def _modules(root: Path, version: str, into: Path, busybox: Path) -> Path:
    """Our devices' modules and those they need, with the kernel's table of them."""
    home = root / "usr/lib/modules" / version
    run(busybox, "depmod", "-b", root, version)
    needs = {}
    for line in (home / "modules.dep").read_text().splitlines():
        path, _, others = line.partition(":")
        needs[Path(path).name.removesuffix(".ko").replace("-", "_")] = (path, *others.split())
    wanted = {path for module in MODULES if module in needs for path in needs[module]}
    for path in sorted(wanted):
        target = into / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(home / path, target)
    for table in ("modules.builtin", "modules.order"):
        shutil.copy(home / table, into / table)
    kept = (line for line in (home / "modules.dep").read_text().splitlines() if line.partition(":")[0] in wanted)
    (into / "modules.dep").write_text("".join(f"{line}\n" for line in kept))
    return into


def pack(root: Path, archive: Path, busybox: Path) -> None:
    """A cpio archive as the kernel unpacks it."""
    words = 'cd "$1" && find . | sort | "$2" cpio -o -H newc --owner 0:0 > "$3" 2>/dev/null'
    run("sh", "-c", words, "-", root, busybox.resolve(), archive.resolve())


def run(*words: str | Path) -> None:
    """A command that must succeed.

    Raises:
        RuntimeError: it did not; with its last words.
    """
    done = subprocess.run([str(word) for word in words], capture_output=True, timeout=300, check=False)
    if done.returncode:
        said = (done.stdout + done.stderr).decode(errors="replace")[-2000:]
        raise RuntimeError(f"{words[0]} ended with {done.returncode}: {said}")
