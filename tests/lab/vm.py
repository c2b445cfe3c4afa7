"""One boot of the lab: QEMU runs the scenarios of inside/ to their end, or to ours.

The CPUs are emulated, eight of them by the few this machine has. So that busy guests do not slow down the rooms and
the clock of the test itself, the threads of the CPUs where only loads run are made nicer than those of SYSTEM_CPUS.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.conftest import missing
from tests.lab import machine
from tests.lab.image import Image
from tests.lab.loop import loop
from tests.lab.system import BUILD

PROGRAM: Final = "qemu-system-x86_64"
KERNEL_OPTIONS: Final = "console=ttyS0 psi=1 cgroup_no_v1=all mitigations=off nokaslr panic=-1 quiet"
NICE: Final = 10  # of the other CPUs' threads
LONGEST: Final = 900.0  # seconds until the machine is switched off
TOLD: Final = 60  # lines of the console told with a failure


@dataclass(frozen=True)
class Verdict:
    """What became of one scenario."""

    outcome: str  # passed, failed, skipped
    story: str
    seconds: float


@dataclass
class Run:
    """One boot: verdicts by name of the scenario, figures by scenario, and the console's last words."""

    verdicts: dict[str, Verdict] = field(default_factory=dict)
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    console: str = ""
    trouble: str = ""


def boot(image: Image, only: Sequence[str] = ()) -> Run:
    """Run the scenarios (all, or those named) on a fresh machine."""
    if shutil.which(PROGRAM) is None:
        missing(f"{PROGRAM} (Debian: qemu-system-x86)")
    disk, console, told = BUILD / "disk.img", BUILD / "console.log", BUILD / "told.jsonl"
    _make_disk(disk)
    words = [PROGRAM, "-accel", "tcg,thread=multi", "-name", "lab,debug-threads=on", "-nodefaults", "-no-reboot"]
    words += ["-display", "none", "-monitor", "none", *machine.hardware(str(disk))]
    words += ["-kernel", str(image.kernel), "-initrd", str(image.initrd)]
    words += ["-append", f"{KERNEL_OPTIONS} lab_only={','.join(only)}"]
    words += ["-serial", f"file:{console}", "-serial", f"file:{told}"]
    started, run = time.monotonic(), Run()
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as qemu:
        try:
            _calm(qemu)
            said, _ = qemu.communicate(timeout=LONGEST)
            if qemu.returncode:
                run.trouble = f"{PROGRAM} ended with {qemu.returncode}: {said.decode(errors='replace')[-2000:]}"
        except subprocess.TimeoutExpired:
            run.trouble = f"the machine did not come to its end in {LONGEST:.0f} s"
        finally:
            qemu.kill()
    run.console = console.read_text(errors="replace") if console.is_file() else ""
    _read(told, run)
    run.figures["lab"] = {"wall_seconds": round(time.monotonic() - started, 1)} | run.figures.get("lab", {})
    return run


def slowness(run: Run) -> dict[str, Any]:
    """How much longer the same loop takes in there, with the machine otherwise idle."""
    inside = run.figures.get("lab", {}).get("loop_seconds")
    outside = min(loop() for _ in range(3))
    return {"loop_seconds_outside": round(outside, 3), "slower_by": round(inside / outside, 1) if inside else None}


def last_words(run: Run) -> str:
    """For a failure that no scenario tells about."""
    lines = run.console.replace("\r", "").splitlines()[-TOLD:]
    return "\n".join([run.trouble or "the machine ended by itself", "-- console", *lines])


def _make_disk(disk: Path) -> None:
    """A sparse file system; what is written to it during a run is thrown away."""
    size = machine.DISK_MIB << 20
    if disk.is_file() and disk.stat().st_size == size:
        return
    disk.parent.mkdir(parents=True, exist_ok=True)
    with disk.open("wb") as made:
        made.truncate(size)
    command = shutil.which("mke2fs") or "/usr/sbin/mke2fs"
    subprocess.run([command, "-q", "-F", "-t", "ext4", str(disk)], check=True, capture_output=True, timeout=60)


def _calm(qemu: subprocess.Popen[bytes]) -> None:
    """Make the loads' CPUs nicer, once all of them have a thread."""
    until, tasks = time.monotonic() + 10, Path(f"/proc/{qemu.pid}/task")
    loads = {f"CPU {cpu}/TCG" for cpu in range(machine.CPUS) if cpu not in machine.SYSTEM_CPUS}
    while qemu.poll() is None and time.monotonic() < until:
        found = {int(task.name): (task / "comm").read_text().strip() for task in tasks.iterdir()}
        mine = [number for number, name in found.items() if name in loads]
        if len(mine) == len(loads):
            for number in mine:
                os.setpriority(os.PRIO_PROCESS, number, NICE)
            return
        time.sleep(0.05)


def _read(told: Path, run: Run) -> None:
    """What the scenarios said on the second serial line; a torn line is nobody's verdict."""
    for line in told.read_text(errors="replace").splitlines() if told.is_file() else ():
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if "figures" in said:
            run.figures.setdefault(said["scenario"], {}).update(said["figures"])
        else:
            run.verdicts[said["scenario"]] = Verdict(said["outcome"], said["story"], said["seconds"])
