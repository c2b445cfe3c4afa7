"""Whatever befalls lists and watches: nothing is told twice or taken back wrongly, and in the end everything is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neap.common.errors import Denied, Expired, PortError, Rejected, Throttled, Unavailable
from neap.common.kube.kind import Kind
from neap.common.kube.objects import Metadata, Whatever
from neap.common.kube.port import Change, Page, Watched
from neap.gateway.core.hearing.following import (
    Begun,
    Broke,
    ChangeHeard,
    Ended,
    Listen,
    ListPage,
    Opened,
    OpenWatch,
    PageRead,
    Passed,
    Say,
    Wait,
    What,
)
from neap.gateway.core.hearing.reflector import Complete, Reflector, ReflectorSettings, Removed, Seen, Stale

THINGS = Kind("", "v1", "things", "Thing", Whatever)
ERRORS: dict[str, Callable[[], PortError]] = {
    "5xx": lambda: Unavailable("a 500"),
    "busy": lambda: Throttled("too much", 3.0),
    "expired": lambda: Expired("too old"),
    "denied": lambda: Denied("not now"),
    "rejected": lambda: Rejected("what?"),
}
FAULTS = (*ERRORS, "ends", "silence", "repeat", "late", "wrong page", "older page", "empty page")


@dataclass
class Server:
    """What an API server keeps of one kind."""

    version: int = 100
    objects: dict[str, Whatever] = field(default_factory=dict)
    log: list[Watched[Whatever]] = field(default_factory=list)

    def do(self, act: str, number: int) -> None:
        key = f"ns/t{number}"
        there = self.objects.get(key)
        if (there is None) != (act == "create"):
            return
        self.version += 1
        uid = there.metadata.uid if there else f"u{self.version}"
        made = Whatever(
            metadata=Metadata(name=f"t{number}", namespace="ns", uid=uid, resource_version=str(self.version))
        )
        if act == "delete":
            del self.objects[key]
        else:
            self.objects[key] = made
        change = {"create": Change.ADDED, "change": Change.MODIFIED, "delete": Change.DELETED}[act]
        self.log.append(Watched(change, str(self.version), made))


class World:
    """Runs a reflector against the server, order by order; a fault may befall each."""

    def __init__(self) -> None:
        self.server, self.at = Server(), 1000.0
        self.reflector = Reflector(THINGS, ReflectorSettings(page=2, many=3, relist_every=1e9))
        self.told: dict[str, Whatever] = {}
        self.ever: set[tuple[str, str, str]] = set()
        self.stale = self.lied = False
        self.heard = 0  # lines of the log up to where the open watch has read
        self.pages: tuple[str, list[Whatever]] = ("", [])
        self.order = self._hear(Begun())

    def _hear(self, what: What) -> ListPage | OpenWatch | Listen | Wait:
        *said, do = self.reflector.handle(what, self.at)
        self.reflector.validate()
        for say in said:
            assert isinstance(say, Say)
            self._said(say.what)
        assert not isinstance(do, Say)
        return do

    def _said(self, said: object) -> None:
        match said:
            case Seen(object=object, version=version):
                meta = object.metadata
                mark = (meta.key, meta.uid, version)
                assert mark not in self.ever, f"{mark} told twice"
                self.ever.add(mark)
                assert meta.key not in self.told or self.told[meta.key].metadata.uid == meta.uid, "a namesake"
                self.told[meta.key] = object
                self.stale = False
            case Removed(key=key, uid=uid):
                gone = self.told.pop(key)
                assert gone.metadata.uid == uid
                there = self.server.objects.get(key)
                assert there is None or there.metadata.uid != uid, f"{key} taken back, and there it is"
            case Complete(count=count):
                assert count == len(self.told)
                self.stale = self.lied = False
            case Stale(since=since):
                assert not self.stale, "stale twice"
                assert self.at - since >= 30.0
                self.stale = True

    def step(self, fault: str = "") -> None:
        """Carry out what was asked for, or let the fault befall it."""
        match self.order:
            case Wait(until=until):
                self.at = max(self.at, until)
                self.order = self._hear(Passed())
            case ListPage() as asked:
                self.order = self._hear(self._page(asked, fault))
            case OpenWatch(version=version):
                self.at += 0.01
                if fault in ERRORS:
                    self.order = self._hear(Broke(ERRORS[fault]()))
                else:
                    self.heard = sum(int(line.version) <= int(version) for line in self.server.log)
                    self.order = self._hear(Opened())
            case Listen(until=until):
                self.order = self._hear(self._line(until, fault))

    def _page(self, asked: ListPage, fault: str) -> What:
        self.at += 0.01
        if fault in ERRORS:
            return Broke(ERRORS[fault]())
        if not asked.token:
            self.pages = (str(self.server.version), [self.server.objects[key] for key in sorted(self.server.objects)])
        version, left = self.pages
        if fault == "older page":
            return PageRead(Page(tuple(left[:1]), "7"))
        if fault == "empty page" and not asked.token:
            return PageRead(Page((), version))
        if fault == "wrong page" and asked.token:  # the rest of the list as it is by now
            last, version = left[0].metadata.key, str(self.server.version)
            left = [self.server.objects[key] for key in sorted(self.server.objects) if key >= last]
        page, rest = left[: asked.limit], left[asked.limit :]
        self.pages = (version, rest)
        return PageRead(Page(tuple(page), version, "more" if rest else ""))

    def _line(self, until: float, fault: str) -> What:
        self.at += 0.01
        log = self.server.log
        if fault in ERRORS:
            return Broke(ERRORS[fault]())
        if fault == "ends":
            return Ended()
        if fault == "repeat" and self.heard:
            return ChangeHeard(log[self.heard - 1])
        if fault == "late" and self.heard:
            return ChangeHeard(log[(self.heard - 1) // 2])
        if fault == "silence" or self.heard >= len(log):
            self.at = max(self.at, until)
            return Passed()
        self.heard += 1
        return ChangeHeard(log[self.heard - 1])

    def settle(self, done: Callable[[], bool] | None = None) -> None:
        """Without faults, until it is so."""
        done = done or (lambda: self.knows_all)
        for _ in range(400):
            if done():
                return
            self.step()
        raise AssertionError((self.order, self.told, self.server.objects))

    @property
    def knows_all(self) -> bool:
        idle = isinstance(self.order, Listen) and self.heard >= len(self.server.log)
        return idle and not self.stale and self.told == self.server.objects


acts = st.tuples(st.sampled_from(["create", "change", "delete"]), st.integers(0, 6))
faults = st.sampled_from([*FAULTS, *[""] * 12])
steps = st.lists(st.one_of(acts, faults), max_size=120)


@given(steps)
def test_whatever_happens_nothing_is_told_twice_and_in_the_end_everything_is_known(
    plan: list[str | tuple[str, int]],
) -> None:
    world = World()
    for each in plan:
        if isinstance(each, tuple):
            world.server.do(*each)
        else:  # a lie told twice, or to one who knows nothing, is believed, as it must be
            is_lie = each in ("older page", "empty page") and isinstance(world.order, ListPage)
            is_believed = is_lie and (world.lied or len(world.told) < 3)
            world.step("" if is_believed else each)
            world.lied |= is_lie and not is_believed
    world.settle()


@given(st.integers(0, 12), st.integers(0, 6), st.sampled_from(list(ERRORS)))
def test_a_list_that_is_cut_takes_nothing_back(known: int, gone: int, error: str) -> None:
    world = World()
    for number in range(known):
        world.server.do("create", number)
    world.settle()
    for number in range(min(gone, known)):
        world.server.do("delete", number)
    world.step("expired")  # the watch: a list is read anew
    world.settle(lambda: isinstance(world.order, ListPage))
    before = dict(world.told)
    world.step()
    if isinstance(world.order, ListPage):  # its second page
        world.step(error)
        assert world.told == before
    world.settle()


def test_pages_of_two_versions_are_no_list() -> None:
    world = World()
    for number in range(5):
        world.server.do("create", number)
    world.step()
    assert isinstance(world.order, ListPage)
    assert len(world.told) == 2
    world.server.do("delete", 0)
    world.step("wrong page")
    assert isinstance(world.order, Wait)
    world.settle()


@pytest.mark.parametrize("lie", ["older page", "empty page"])
def test_a_list_in_doubt_is_believed_only_when_the_next_one_agrees(lie: str) -> None:
    world = World()
    for number in range(5):
        world.server.do("create", number)
    world.settle()
    world.step("expired")
    world.settle(lambda: isinstance(world.order, ListPage))
    world.step(lie)
    assert len(world.told) == 5
    assert isinstance(world.order, Wait)
    world.server.objects.clear()  # now it is true
    world.server.version += 1 if lie == "empty page" else -100
    for _ in range(20):
        if isinstance(world.order, OpenWatch):
            break
        world.step(lie if isinstance(world.order, ListPage) else "")
    assert isinstance(world.order, OpenWatch)
    assert world.told == {}


@given(st.lists(st.sampled_from(["ends", "5xx", "expired", "busy"]), min_size=30, max_size=30))
def test_a_server_that_fails_at_once_is_asked_ever_more_rarely(failures: list[str]) -> None:
    world = World()
    began, asked = world.at, 0
    for fault in failures * 4:
        if isinstance(world.order, ListPage | OpenWatch):
            asked += 1
        world.step("5xx" if isinstance(world.order, ListPage) and fault == "ends" else fault)
    assert asked <= 8 + (world.at - began) / 5.0, f"{asked} requests in {world.at - began:.0f} s"
