"""The promises of the HostFs port, kept by every adapter: a real directory, memory, and a host in another process."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from neap.common.errors import Denied, PortError, SettingsError, Unavailable, Vanished
from neap.common.host.memory import Folder, Knob, Link, MemoryHost
from neap.common.host.open import open_host
from neap.common.host.port import HostFs, Refused, Space, Unsupported
from neap.common.host.real import RealHost, port_error
from neap.common.host.remote import RemoteHost, serve_hosts

FILES = {
    "/sys/cpu/online": "0-3\n",
    "/sys/cpu/cpu0/id": "0\n",
    "/sys/cpu/cpu1/id": "1\n",
    "/sys/devices/card/class": "0x030200\n",
    "/proc/stat": "cpu 1 2 3\n",
}
LINKS = {
    "/sys/bus/card": "../devices/card",  # relative
    "/sys/absolute": "/sys/devices",  # absolute: means the same tree
    "/sys/outside": "../../../../../../../../secret",
    "/sys/round": "round",
}


@dataclass
class Stage:
    """A host under test and what the stage hands can do behind its back."""

    host: HostFs
    vanish: Callable[[str], None]  # a whole directory goes away


@contextmanager
def served(hosts: Mapping[str, HostFs], path: str) -> Iterator[None]:
    """Serve hosts from another thread's event loop."""
    loop = asyncio.new_event_loop()
    ready, over = threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with serve_hosts(path, hosts):
            ready.set()
            await over.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert ready.wait(5)
        yield
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(5)
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def in_memory() -> MemoryHost:
    host = MemoryHost(FILES)
    for path, target in LINKS.items():
        host.put(path, Link(target))
    return host


def in_directory(folder: Path) -> Path:
    root = folder / "root"
    for path, text in FILES.items():
        file = root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    for path, target in LINKS.items():
        link = root / path.lstrip("/")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
    (folder / "secret").write_text("not yours")
    return root


def remove_tree(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()


@pytest.fixture(params=["real", "memory", "remote"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    if request.param == "real":
        root = in_directory(tmp_path)
        yield Stage(RealHost(str(root)), lambda path: remove_tree(root / path.lstrip("/")))
    elif request.param == "memory":
        memory = in_memory()
        yield Stage(memory, memory.remove)
    else:
        memory = in_memory()
        with served({"n1": memory}, str(tmp_path / "hosts.sock")):
            remote = RemoteHost(str(tmp_path / "hosts.sock"), "n1")
            yield Stage(remote, memory.remove)
            remote.close()


def test_a_file_is_read_whole(stage: Stage) -> None:
    assert stage.host.read("/sys/cpu/online") == "0-3\n"


def test_reading_what_is_not_there_is_vanished(stage: Stage) -> None:
    for path in ("/sys/cpu/offline", "/nowhere/at/all", "/sys/cpu/online/below"):
        with pytest.raises(Vanished, match=path):
            stage.host.read(path)


def test_reading_a_directory_is_an_error_that_names_it(stage: Stage) -> None:
    with pytest.raises(PortError, match="/sys/cpu"):
        stage.host.read("/sys/cpu")


def test_a_directory_that_vanishes_between_listing_and_reading_is_vanished(stage: Stage) -> None:
    names = stage.host.list("/sys/cpu")
    stage.vanish("/sys/cpu/cpu1")
    assert "cpu1" in names
    with pytest.raises(Vanished):
        stage.host.read("/sys/cpu/cpu1/id")
    with pytest.raises(Vanished):
        stage.host.write("/sys/cpu/cpu1/id", "2")
    with pytest.raises(Vanished):
        stage.host.list("/sys/cpu/cpu1")
    assert not stage.host.exists("/sys/cpu/cpu1")
    assert stage.host.list("/sys/cpu") == ["cpu0", "online"]


def test_read_all_keeps_the_order_and_gives_none_for_what_cannot_be_read(stage: Stage) -> None:
    paths = ["/proc/stat", "/gone", "/sys/cpu/cpu1/id", "/sys/cpu", "/sys/cpu/cpu0/id", "/proc/stat"]
    assert stage.host.read_all(paths) == ["cpu 1 2 3\n", None, "1\n", None, "0\n", "cpu 1 2 3\n"]
    assert stage.host.read_all([]) == []


def test_a_write_replaces_the_whole_value(stage: Stage) -> None:
    stage.host.write("/sys/cpu/online", "2")
    assert stage.host.read("/sys/cpu/online") == "2"


def test_writing_a_file_the_directory_does_not_have_is_unsupported(stage: Stage) -> None:
    with pytest.raises(Unsupported, match="/sys/cpu/boost"):
        stage.host.write("/sys/cpu/boost", "1")
    assert not stage.host.exists("/sys/cpu/boost")


def test_writing_into_a_directory_that_is_gone_is_vanished(stage: Stage) -> None:
    with pytest.raises(Vanished, match=r"/sys/fs/cgroup/pod/cpu\.max"):
        stage.host.write("/sys/fs/cgroup/pod/cpu.max", "max")


def test_a_listing_is_sorted_and_names_only_children(stage: Stage) -> None:
    assert stage.host.list("/sys/cpu") == ["cpu0", "cpu1", "online"]
    assert stage.host.list("/") == ["proc", "sys"]


def test_listing_a_file_or_nothing_is_vanished(stage: Stage) -> None:
    for path in ("/sys/cpu/online", "/nowhere"):
        with pytest.raises(Vanished):
            stage.host.list(path)


def test_links_are_followed_on_the_way_and_at_the_end(stage: Stage) -> None:
    assert stage.host.read("/sys/bus/card/class") == "0x030200\n"
    assert stage.host.read("/sys/bus/card/../card/class") == "0x030200\n"
    assert stage.host.read("/sys/absolute/card/class") == "0x030200\n"
    assert stage.host.list("/sys/bus/card") == ["class"]
    assert stage.host.exists("/sys/bus/card")


def test_a_link_names_its_target_as_a_host_path(stage: Stage) -> None:
    assert stage.host.link("/sys/bus/card") == "/sys/devices/card"
    assert stage.host.link("/sys/absolute") == "/sys/devices"
    assert stage.host.link("/sys/cpu/online") is None
    assert stage.host.link("/nowhere") is None


def test_the_targets_of_many_links_are_one_call_in_order(stage: Stage) -> None:
    paths = ["/sys/absolute", "/nowhere", "/sys/cpu/online", "/sys/bus/card", "/sys/bus/card"]
    assert stage.host.link_all(paths) == ["/sys/devices", None, None, "/sys/devices/card", "/sys/devices/card"]
    assert stage.host.link_all([]) == []


def test_no_path_leaves_the_root(stage: Stage) -> None:
    for path in ("/../secret", "/sys/../../../secret", "/sys/outside", "/../../../../etc/hostname"):
        assert not stage.host.exists(path)
        with pytest.raises(Vanished):
            stage.host.read(path)
    assert stage.host.read("/../sys/cpu/online") == "0-3\n"


def test_a_link_that_leads_to_itself_ends(stage: Stage) -> None:
    assert not stage.host.exists("/sys/round")
    with pytest.raises(PortError):
        stage.host.read("/sys/round")


@pytest.mark.parametrize("kind", ["real", "memory", "remote"])
def test_a_value_the_kernel_does_not_take_is_refused_with_its_errno(kind: str, tmp_path: Path) -> None:
    if kind == "real":
        with pytest.raises(Refused, match="EINVAL"):
            RealHost().write("/proc/self/oom_score_adj", "20000")
        return

    def never(text: str) -> None:
        raise Refused(f"write: {text} (EINVAL)")

    memory = MemoryHost()
    memory.put("/proc/self/oom_score_adj", Knob(lambda: "0\n", never))
    with served({"n": memory}, str(tmp_path / "s")):
        host: HostFs = memory if kind == "memory" else RemoteHost(str(tmp_path / "s"), "n")
        with pytest.raises(Refused, match="EINVAL"):
            host.write("/proc/self/oom_score_adj", "20000")
        assert host.read("/proc/self/oom_score_adj") == "0\n"
        if isinstance(host, RemoteHost):
            host.close()


# -- what only one adapter can show ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "act", "kind"),
    [
        (errno.ENODEV, "read", Vanished),  # the cgroup was removed while its file was open
        (errno.ESRCH, "read", Vanished),
        (errno.EOPNOTSUPP, "read", Unsupported),  # PSI is switched off
        (errno.EACCES, "write", Denied),
        (errno.EROFS, "write", Denied),
        (errno.EBUSY, "write", Refused),
        (errno.ENOSPC, "write", Refused),
        (errno.ERANGE, "write", Refused),
        (errno.EIO, "read", PortError),
    ],
)
def test_what_the_kernel_says_becomes_one_of_our_errors(number: int, act: str, kind: type[PortError]) -> None:
    error = port_error(act, "/sys/x", OSError(number, "said"))
    assert type(error) is kind
    assert errno.errorcode[number] in str(error)
    assert "/sys/x" in str(error)


def test_this_machine_is_a_host() -> None:
    host = RealHost("/")
    assert host.read("/proc/self/comm").strip()
    assert host.exists("/proc/stat")
    assert "self" in host.list("/proc")
    assert (host.link("/proc/self") or "").startswith("/proc/")


def test_a_file_in_memory_is_computed_when_it_is_read() -> None:
    readings = iter(("1\n", "2\n"))
    host = MemoryHost({"/proc/uptime": lambda: next(readings)})
    assert [host.read("/proc/uptime"), host.read("/proc/uptime")] == ["1\n", "2\n"]


def test_a_file_may_vanish_while_it_is_read(tmp_path: Path) -> None:
    def gone() -> str:
        raise Vanished("read /pod/cpu.stat: went away (ENODEV)")

    memory = MemoryHost({"/pod/cpu.stat": gone, "/pod/name": "x"})
    with served({"n": memory}, str(tmp_path / "s")):
        remote = RemoteHost(str(tmp_path / "s"), "n")
        for host in (memory, remote):
            with pytest.raises(Vanished, match="ENODEV"):
                host.read("/pod/cpu.stat")
            assert host.read_all(["/pod/cpu.stat", "/pod/name"]) == [None, "x"]
        remote.close()


def test_write_hooks_may_refuse_or_replace() -> None:
    def full(path: str, text: str) -> str | None:
        if text == "13":
            raise Refused(f"write {path}: unlucky (EINVAL)")
        return f"{text}\n"

    host = MemoryHost({"/a/cpu.weight": "100\n", "/b/cpu.idle": "0\n"})
    host.on_write("cpu.weight", full)
    with pytest.raises(Refused):
        host.write("/a/cpu.weight", "13")
    assert host.read("/a/cpu.weight") == "100\n"
    host.write("/a/cpu.weight", "50")
    host.write("/b/cpu.idle", "1")
    assert host.read_all(["/a/cpu.weight", "/b/cpu.idle"]) == ["50\n", "1"]


def test_hosts_share_a_tree_and_write_only_their_own() -> None:
    shared: Folder = {"sys": {"cpu": {"online": "0-7\n", "boost": "0\n"}, "link": Link("cpu")}}
    left, right = MemoryHost(shared=shared), MemoryHost(shared=shared)
    left.put("/sys/cpu/extra", "yes")
    left.write("/sys/link/boost", "1\n")
    assert left.list("/sys/cpu") == ["boost", "extra", "online"]
    assert left.read("/sys/cpu/boost") == "1\n"
    assert right.list("/sys/cpu") == ["boost", "online"]
    assert right.read("/sys/cpu/boost") == "0\n"


@dataclass
class Counting(MemoryHost):
    calls: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(FILES)

    def read(self, path: str) -> str:
        self.calls.append(f"read {path}")
        return super().read(path)

    def exists(self, path: str) -> bool:
        self.calls.append("exists")
        return super().exists(path)

    def read_all(self, paths: object) -> list[str | None]:
        self.calls.append("read_all")
        return ["x"] * len(list(paths))  # type: ignore[call-overload]


def test_reading_many_remote_files_is_one_call(tmp_path: Path) -> None:
    host = Counting()
    with served({"n": host}, str(tmp_path / "s")):
        remote = RemoteHost(str(tmp_path / "s"), "n")
        assert remote.read_all([f"/f{i}" for i in range(500)]) == ["x"] * 500
        remote.close()
    assert host.calls == ["read_all"]


def test_one_socket_serves_many_nodes_and_says_which_it_does_not(tmp_path: Path) -> None:
    hosts = {name: MemoryHost({"/name": name}) for name in ("a", "b")}
    with served(hosts, str(tmp_path / "s")):
        remotes = [RemoteHost(str(tmp_path / "s"), name) for name in ("a", "b", "c")]
        assert [remote.read("/name") for remote in remotes[:2]] == ["a", "b"]
        with pytest.raises(Unavailable, match="'c'"):
            remotes[2].read("/name")
        for remote in remotes:
            remote.close()


def test_a_remote_host_comes_back_after_its_server_restarted(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    remote = RemoteHost(path, "n")
    with pytest.raises(Unavailable, match="node n"):
        remote.read("/proc/stat")
    with served({"n": MemoryHost(FILES)}, path):
        assert remote.exists("/proc/stat")
    with pytest.raises(Unavailable):
        remote.read("/proc/stat")
    with served({"n": MemoryHost(FILES)}, path):
        remote.write("/proc/stat", "again")
        assert remote.read("/proc/stat") == "again"
    remote.close()


def test_a_server_that_never_answers_is_given_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "s"))
        silent.listen()
        remote = RemoteHost(str(tmp_path / "s"), "n", timeout=0.05)
        with pytest.raises(Unavailable, match="no answer"):
            remote.read("/proc/stat")


def test_the_server_survives_garbage(tmp_path: Path) -> None:
    with served({"n": MemoryHost(FILES)}, str(tmp_path / "s")):
        for junk in (b"\xff" * 64, (5).to_bytes(4) + b"junk!", b"\0"):
            with socket.socket(socket.AF_UNIX) as line:
                line.settimeout(2)
                line.connect(str(tmp_path / "s"))
                line.sendall(junk)
        remote = RemoteHost(str(tmp_path / "s"), "n")
        assert remote.read("/proc/stat") == "cpu 1 2 3\n"
        remote.close()


def test_a_setting_opens_the_host_it_names(tmp_path: Path) -> None:
    root = in_directory(tmp_path)
    assert open_host(str(root), "n").read("/sys/cpu/online") == "0-3\n"
    assert isinstance(open_host("/", "n"), RealHost)
    with served({"n": MemoryHost({"/name": "n"})}, str(tmp_path / "s")):
        remote = open_host(f"virtual://{tmp_path}/s", "n")
        assert remote.read("/name") == "n"
        assert isinstance(remote, RemoteHost)
        remote.close()
    for spec, node in (("relative", "n"), ("virtual://relative", "n"), ("virtual:///s", "")):
        with pytest.raises(SettingsError, match=spec):
            open_host(spec, node)


def test_list_all_keeps_the_order_and_says_none_for_what_is_no_directory(stage: Stage) -> None:
    stage.vanish("/sys/devices")
    assert stage.host.list_all(["/sys/cpu", "/nowhere", "/sys/devices", "/proc/stat", "/proc"]) == [
        ["cpu0", "cpu1", "online"],
        None,
        None,
        None,
        ["stat"],
    ]


def test_write_all_goes_on_after_what_is_gone_and_tells_why_in_order(stage: Stage) -> None:
    writes = [("/sys/cpu/online", "0-1"), ("/gone/x", "1"), ("/sys/cpu/weight", "5"), ("/sys/cpu/cpu0/id", "7")]
    first, vanished, unsupported, last = stage.host.write_all(writes, stop=True)
    assert (first, last) == (None, None)
    assert isinstance(vanished, Vanished)
    assert isinstance(unsupported, Unsupported)
    assert [stage.host.read(path).strip() for path in ("/sys/cpu/online", "/sys/cpu/cpu0/id")] == ["0-1", "7"]


@pytest.mark.parametrize("kind", ["memory", "remote"])
def test_write_all_stops_at_a_refusal_only_when_asked_to(kind: str, tmp_path: Path) -> None:
    def refuse(_: str) -> None:
        raise Refused("write /knob: Invalid argument (EINVAL)")

    for stop, told, after in ((True, 1, "1"), (False, 2, "2")):
        memory = MemoryHost({"/knob": Knob(lambda: "old", refuse), "/after": "1"})
        with served({"n1": memory}, str(tmp_path / "sock")):
            host = memory if kind == "memory" else RemoteHost(str(tmp_path / "sock"), "n1")
            outcomes = host.write_all([("/knob", "new"), ("/after", "2")], stop=stop)
            assert len(outcomes) == told
            assert isinstance(outcomes[0], Refused)
            assert host.read("/after") == after
            if isinstance(host, RemoteHost):
                host.close()


def test_callers_of_one_remote_host_take_turns(tmp_path: Path) -> None:
    memory = MemoryHost({f"/f{i}": str(i) for i in range(200)})
    with served({"n1": memory}, str(tmp_path / "sock")), ThreadPoolExecutor(8) as pool:
        host = RemoteHost(str(tmp_path / "sock"), "n1")
        texts = list(pool.map(lambda i: host.read_all([f"/f{i}"] * (1 + i % 7)), range(200)))
        host.close()
    assert texts == [[str(i)] * (1 + i % 7) for i in range(200)]


def test_a_folder_is_made_once_and_taken_away(stage: Stage) -> None:
    stage.host.make_folder("/sys/cpu/cpu2")
    stage.host.make_folder("/sys/cpu/cpu2")
    assert stage.host.list("/sys/cpu") == ["cpu0", "cpu1", "cpu2", "online"]
    assert stage.host.list("/sys/cpu/cpu2") == []
    stage.host.remove_folder("/sys/cpu/cpu2")
    assert not stage.host.exists("/sys/cpu/cpu2")


def test_a_folder_that_is_gone_or_has_others_below_is_not_taken_away(stage: Stage) -> None:
    with pytest.raises(Vanished):
        stage.host.remove_folder("/sys/cpu/cpu9")
    with pytest.raises(Refused):
        stage.host.remove_folder("/sys/cpu")
    with pytest.raises(Vanished):
        stage.host.make_folder("/nowhere/at/all")
    with pytest.raises(Refused):
        stage.host.make_folder("/sys/cpu/online")
    assert stage.host.list("/sys/cpu") == ["cpu0", "cpu1", "online"]


def test_no_folder_is_made_outside_the_root(stage: Stage, tmp_path: Path) -> None:
    stage.host.make_folder("/../../made")
    assert stage.host.exists("/made")
    assert not (tmp_path / "made").exists()


def test_space_is_said_in_order_and_not_of_what_is_not_there(stage: Stage) -> None:
    assert stage.host.space_all([]) == []
    assert stage.host.space_all(["/nowhere", "/nowhere/else"]) == [None, None]


def test_the_space_of_a_real_directory_is_that_of_its_file_system(tmp_path: Path) -> None:
    """It moves while we look, so only what must be so is asked."""
    (tmp_path / "root/var").mkdir(parents=True)
    there, below, gone = RealHost(str(tmp_path / "root")).space_all(["/", "/var", "/nowhere"])
    assert there is not None
    assert below is not None
    assert gone is None
    assert there.device == below.device
    assert 0 <= there.free <= there.size > 0
    assert 0 <= there.inodes_free <= there.inodes


def test_space_reaches_a_host_in_another_process(tmp_path: Path) -> None:
    memory = MemoryHost()
    memory.spaces["/"] = Space(1, 100, 40, 10, 5)
    with served({"n1": memory}, str(tmp_path / "hosts.sock")):
        remote = RemoteHost(str(tmp_path / "hosts.sock"), "n1")
        assert remote.space_all(["/", "/var"]) == memory.space_all(["/", "/var"]) == [Space(1, 100, 40, 10, 5), None]
        remote.close()
