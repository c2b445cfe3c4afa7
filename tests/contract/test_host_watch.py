"""The promises of a folder watch, kept by the kernel's and by the one in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from neap.common.host.memory import MemoryHost
from neap.common.host.port import Changed
from neap.common.host.real import RealHost
from neap.common.host.remote import RemoteHost
from neap.common.host.watch import MOST_FOLDERS, FolderWatch, InotifyWatch, MemoryWatch, open_watch
from tests.conftest import SOON


@dataclass
class Stage:
    """A watch and what happens behind its back, in directories /a, /a/b and /c."""

    watch: FolderWatch
    make: Callable[[str], None]
    remove: Callable[[str], None]


@pytest.fixture(params=["inotify", "memory"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Stage:
    if request.param == "memory":
        memory = MemoryWatch(gather=0.001)
        return Stage(memory, *(lambda path: memory.stir(path.rpartition("/")[0]),) * 2)
    for name in ("a/b", "c"):
        (tmp_path / name).mkdir(parents=True)
    watch = InotifyWatch(RealHost(str(tmp_path)), gather=0.001)
    return Stage(watch, lambda path: (tmp_path / path[1:]).mkdir(), lambda path: (tmp_path / path[1:]).rmdir())


async def next_of(watch: FolderWatch, *acts: Callable[[], None]) -> Changed:
    async with watch.changes() as changes:
        for act in acts:
            act()
        return await asyncio.wait_for(anext(changes), SOON)


async def test_a_folder_that_comes_or_goes_is_told_with_the_one_it_is_in(stage: Stage) -> None:
    assert stage.watch.follow(["/a", "/c"]) == {}
    told = await next_of(stage.watch, lambda: stage.make("/a/x"))
    assert told == Changed(("/a",))


async def test_what_happened_before_somebody_listens_is_told(stage: Stage) -> None:
    stage.watch.follow(["/a", "/c"])
    stage.make("/a/x")
    stage.remove("/a/x")
    assert await next_of(stage.watch) == Changed(("/a",))


async def test_what_is_not_followed_any_more_is_not_told(stage: Stage) -> None:
    stage.watch.follow(["/a", "/c"])
    stage.watch.follow(["/c"])
    told = await next_of(stage.watch, lambda: stage.make("/a/x"), lambda: stage.make("/c/x"))
    assert told == Changed(("/c",))


async def test_more_folders_than_can_be_watched_are_refused_by_name(stage: Stage) -> None:
    refused = stage.watch.follow([f"/n{i:05}" for i in range(MOST_FOLDERS + 1)])
    assert f"/n{MOST_FOLDERS:05}" in refused


# -- what only the kernel's can show ---------------------------------------------------------------------------------


def in_directory(folder: Path, *, gather: float = 0.001) -> InotifyWatch:
    (folder / "pod").mkdir()
    (folder / "pod" / "cgroup.procs").write_text("")
    (folder / "pod" / "cpu.max").write_text("")
    return InotifyWatch(RealHost(str(folder)), gather=gather)


async def test_a_write_counts_only_to_the_files_that_were_asked_for(tmp_path: Path) -> None:
    watch = in_directory(tmp_path)
    watch.follow(["/", "/pod"], ["cgroup.procs"])

    def write() -> None:
        (tmp_path / "pod" / "cpu.max").write_text("1")
        (tmp_path / "late").mkdir()

    async with watch.changes() as changes:
        write()
        assert await asyncio.wait_for(anext(changes), SOON) == Changed(("/",))
        (tmp_path / "pod" / "cgroup.procs").write_text("1")
        assert await asyncio.wait_for(anext(changes), SOON) == Changed(("/pod",))


async def test_a_folder_that_went_and_came_is_watched_again_when_asked_again(tmp_path: Path) -> None:
    watch = in_directory(tmp_path)
    (tmp_path / "a").mkdir()
    watch.follow(["/", "/a"])
    async with watch.changes() as changes:
        (tmp_path / "a").rmdir()
        (tmp_path / "a").mkdir()
        assert (await asyncio.wait_for(anext(changes), SOON)).folders == ("/",)
        watch.follow(["/", "/a"])
        (tmp_path / "a" / "b").mkdir()
        assert await asyncio.wait_for(anext(changes), SOON) == Changed(("/a",))


async def test_when_the_kernel_lost_count_it_says_so(tmp_path: Path) -> None:
    """More events than fs.inotify.max_queued_events, unread."""
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    watch = in_directory(tmp_path)
    watch.follow(["/pod"], ["cgroup.procs", "cpu.max"])
    with (tmp_path / "pod/cgroup.procs").open("wb", 0) as one, (tmp_path / "pod/cpu.max").open("wb", 0) as other:
        for _ in range(limit // 2 + 8):  # two equal events in a row would be one
            one.write(b"1")
            other.write(b"1")
    async with watch.changes() as changes:
        told = [await asyncio.wait_for(anext(changes), SOON)]
        while not told[-1].lost:
            told.append(await asyncio.wait_for(anext(changes), SOON))
    assert told[-1].lost


async def test_many_changes_are_told_together(tmp_path: Path) -> None:
    watch = in_directory(tmp_path, gather=0.05)
    watch.follow(["/"])
    async with watch.changes() as changes:
        for i in range(200):
            (tmp_path / f"d{i}").mkdir()
        assert await asyncio.wait_for(anext(changes), SOON) == Changed(("/",))
        (tmp_path / "last").mkdir()
        assert await asyncio.wait_for(anext(changes), SOON) == Changed(("/",))


async def test_what_cannot_be_watched_is_named_with_the_reason(tmp_path: Path) -> None:
    watch = in_directory(tmp_path)
    refused = watch.follow(["/pod", "/gone", "/pod/cpu.max"])
    assert sorted(refused) == ["/gone", "/pod/cpu.max"]
    assert "ENOENT" in refused["/gone"]
    async with watch.changes():
        pass
    assert "ended" in watch.follow(["/pod"])["/pod"]


def test_a_host_that_is_no_directory_has_a_watch_that_is_silent(tmp_path: Path) -> None:
    assert isinstance(open_watch(MemoryHost()), MemoryWatch)
    assert isinstance(open_watch(RemoteHost(str(tmp_path / "s"), "n")), MemoryWatch)
    assert isinstance(open_watch(RealHost(str(tmp_path))), InotifyWatch)
