"""Values that belong to processes and not to a cgroup: their oom_score_adj, their resctrl group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from neap.common.errors import PortError, Vanished
from neap.common.host.port import HostFs
from neap.enforcer.core.instruction import Write
from neap.enforcer.core.knob import Knob, Reach, Site
from neap.enforcer.core.processes import gather, scatter
from neap.enforcer.core.rdt import OWN, RESCTRL, ROOT, group_folder

LISTS: Final = {Reach.PROCESSES: "cgroup.procs", Reach.TASKS: "cgroup.threads"}


class Tasks:
    """Reads and writes them; however many there are, three calls to the host read them all."""

    def __init__(self, host: HostFs, knobs: Mapping[str, Knob]) -> None:
        self._host, self._knobs = host, knobs

    def show(self, sites: Sequence[Site]) -> dict[Site, str | None]:
        """What the tasks of each site show; None where there is no such cgroup."""
        found: dict[Site, str | None] = {}
        for reach in LISTS:
            asked = [site for site in sites if self._knobs[site.file].reach is reach]
            if asked:
                listed = self._host.read_all([f"{site.cgroup}/{LISTS[reach]}" for site in asked])
                numbers = {site: _numbers(text) for site, text in zip(asked, listed, strict=True) if text is not None}
                values = self._scores(numbers) if reach is Reach.PROCESSES else self._groups(numbers)
                found |= {site: gather(values[site]) if site in values else None for site in asked}
        return found

    def write(self, write: Write) -> PortError | None:
        """To each task of the cgroup; one that ended meanwhile needs nothing. Returns the first that was refused."""
        reach = self._knobs[write.site.file].reach
        try:
            numbers = _numbers(self._host.read(f"{write.site.cgroup}/{LISTS[reach]}"))
        except PortError as error:
            return error
        texts = scatter(write.text, numbers)
        if reach is Reach.PROCESSES:
            told = self._host.write_all([(f"/proc/{pid}/{write.site.file}", text) for pid, text in texts.items()])
        else:
            groups = sorted(set(texts.values()))
            if missing := [group for group in groups if not self._host.exists(f"{group_folder(group)}/tasks")]:
                return PortError(f"write {write.site.cgroup}: no resctrl group {missing[0]}")
            told = self._host.write_all([(f"{group_folder(group)}/tasks", str(tid)) for tid, group in texts.items()])
        return next((error for error in told if error and not isinstance(error, Vanished)), None)

    def _scores(self, numbers: Mapping[Site, list[int]]) -> dict[Site, dict[int, str]]:
        asked = [(site, pid) for site, pids in numbers.items() for pid in pids]
        texts = self._host.read_all([f"/proc/{pid}/{site.file}" for site, pid in asked])
        shown: dict[Site, dict[int, str]] = {site: {} for site in numbers}
        for (site, pid), text in zip(asked, texts, strict=True):
            if text:
                shown[site][pid] = text
        return shown

    def _groups(self, numbers: Mapping[Site, list[int]]) -> dict[Site, dict[int, str]]:
        """Who is in no group is in the root group, which therefore need not be read."""
        names = self.groups() or ()
        lists = self._host.read_all([f"{RESCTRL}/{name}/tasks" for name in names])
        of = {tid: name for name, text in zip(names, lists, strict=True) for tid in _numbers(text or "")}
        return {site: {tid: of.get(tid, ROOT) for tid in tids} for site, tids in numbers.items()}

    def groups(self) -> tuple[str, ...] | None:
        """The names of the resctrl groups; None where resctrl is not mounted."""
        names = self._host.list_all([RESCTRL])[0] or []
        if "schemata" not in names:
            return None
        folders = [name for name in names if "." not in name and name not in OWN and not name.isspace()]
        inside = self._host.list_all([f"{RESCTRL}/{name}" for name in folders])
        return tuple(name for name, below in zip(folders, inside, strict=True) if below and "schemata" in below)


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split() if number.isdigit()]
