"""What the kernel says: cgroups, tasks, pages, stalls. Everything is read at the moment of the question."""

from __future__ import annotations

import errno
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from neap.common.cpuset import parse_cpuset

CGROUPS: Final = Path("/sys/fs/cgroup")
ACTS: Final = re.compile(  # files that are written to make something happen, not to set something
    r"cgroup\.(procs|threads|kill)|memory\.(reclaim|peak)|.*\.pressure"
)


@dataclass(frozen=True)
class Cgroup:
    """One directory of the hierarchy."""

    path: Path

    def make(self, *controllers: str) -> Cgroup:
        """Create it, and hand the controllers on to its children."""
        self.path.mkdir(exist_ok=True)
        if controllers:
            self.write("cgroup.subtree_control", " ".join(f"+{name}" for name in controllers))
        return self

    def below(self, name: str) -> Cgroup:
        return Cgroup(self.path / name)

    def read(self, file: str) -> str:
        return (self.path / file).read_text().strip()

    def write(self, file: str, text: str) -> None:
        (self.path / file).write_text(text)

    def number(self, file: str) -> int:
        return int(self.read(file))

    def table(self, file: str) -> dict[str, int]:
        """Lines of "name value"."""
        return {name: int(value) for name, value in (line.split() for line in self.read(file).splitlines())}

    def cpus(self) -> frozenset[int]:
        return parse_cpuset(self.read("cpuset.cpus.effective"))

    def processes(self) -> list[int]:
        """Of this cgroup and all below it."""
        folders = [Path(folder) for folder, _, _ in os.walk(self.path)]
        return [int(pid) for folder in folders for pid in (folder / "cgroup.procs").read_text().split()]

    def stall(self, resource: str, kind: str = "some") -> dict[str, float]:
        """One line of PSI: avg10, avg60, avg300 in percent, total in microseconds."""
        [line] = [line for line in self.read(f"{resource}.pressure").splitlines() if line.startswith(kind)]
        return {name: float(value) for name, value in (part.split("=") for part in line.split()[1:])}

    def remove(self) -> None:
        """With everything below it; whoever is still in it is killed."""
        if not self.path.is_dir():
            return
        self.write("cgroup.kill", "1")
        for folder, _, _ in os.walk(self.path, topdown=False):
            _rmdir(Path(folder))


def _rmdir(folder: Path) -> None:
    """The last task may still be on its way out."""
    from tests.lab.inside.wait import until

    def gone() -> bool:
        try:
            folder.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    until(gone, f"{folder} is empty", within=20)


def allowed(pid: int, what: str = "Cpus") -> frozenset[int]:
    """Where a task may run ("Cpus") or allocate ("Mems")."""
    text = Path(f"/proc/{pid}/status").read_text()
    return parse_cpuset(text.partition(f"{what}_allowed_list:\t")[2].partition("\n")[0])


def pages(pid: int) -> dict[int, int]:
    """NUMA node -> pages of the task's anonymous memory that lie there."""
    found: dict[int, int] = {}
    for line in Path(f"/proc/{pid}/numa_maps").read_text().splitlines():
        if " file=" not in line:
            for node, count in re.findall(r" N(\d+)=(\d+)", line):
                found[int(node)] = found.get(int(node), 0) + int(count)
    return found


def settings_of(root: Cgroup) -> dict[str, str]:
    """Every file of the tree that sets something, and what the kernel shows there; oom_score_adj of its tasks."""
    found = {}
    for folder, _, files in os.walk(root.path):
        for file in sorted(files):
            path = Path(folder) / file
            if not ACTS.fullmatch(file) and path.stat().st_mode & stat.S_IWUSR:
                found[str(path.relative_to(CGROUPS))] = _shown(path)
    for pid in root.processes():
        found[f"{pid}/oom_score_adj"] = Path(f"/proc/{pid}/oom_score_adj").read_text().strip()
    return found


def sets_of(root: Cgroup) -> dict[str, str]:
    """Only the sets of CPUs and memory nodes."""
    return {
        f"{folder}/{file}": _shown(Path(folder) / file)
        for folder, _, files in os.walk(root.path)
        for file in ("cpuset.cpus", "cpuset.mems")
        if file in files
    }


def _shown(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:  # of a device that is not there
        return os.strerror(error.errno or 0)


def differences(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """What is not as it was."""
    names = sorted(before.keys() | after.keys())
    changed = [name for name in names if before.get(name) != after.get(name)]
    return [f"{name}: {before.get(name)!r} -> {after.get(name)!r}" for name in changed]


def not_given_back(before: dict[str, str], after: dict[str, str]) -> tuple[list[str], int]:
    """What is not as it was, and how many sets the kernel itself will not give back as they were.

    Linux 6.1 answers ENOSPC to whoever empties cpuset.cpus or cpuset.mems while a task is below it; nobody can put such
    a set back. Then it has to name everything there is, which is the same for every task.
    """
    left, kept = [], 0
    for line in differences(before, after):
        name = line.partition(":")[0]
        path, file = CGROUPS / name, name.rpartition("/")[2]
        is_whole = file.startswith("cpuset.") and after.get(name) == (CGROUPS / f"{file}.effective").read_text().strip()
        if before.get(name) == "" and is_whole and _refuses_nothing(path):
            kept += 1
        else:
            left.append(line)
    return left, kept


def _refuses_nothing(path: Path) -> bool:
    try:
        path.write_text("\n")
    except OSError as error:
        return error.errno == errno.ENOSPC
    return False


def node_event(name: str) -> int:
    """A counter of /proc/vmstat."""
    for line in Path("/proc/vmstat").read_text().splitlines():
        if line.startswith(f"{name} "):
            return int(line.split()[1])
    raise KeyError(name)
