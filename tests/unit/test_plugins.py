"""A plugins folder is the registry, and a bad file stops the start with its name."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

import pytest

from neap.common.errors import SettingsError
from neap.common.runtime.plugins import load

GOOD = "class Rule:\n    weight = 1\n    def judge(self, x):\n        return x\nPLUGIN = Rule()\n"
Folder = Callable[..., str]


@runtime_checkable
class Rule(Protocol):
    weight: int

    def judge(self, x: int) -> int: ...


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    fresh = itertools.count()

    def make(**files: str) -> str:
        name = f"plugins_of_{tmp_path.name}_{next(fresh)}"
        (tmp_path / name).mkdir()
        for stem, text in files.items():
            (tmp_path / name / f"{stem}.py").write_text(text)
        return name

    monkeypatch.syspath_prepend(tmp_path)
    return make


def test_files_are_plugins_by_name_and_private_files_are_not(folder: Folder) -> None:
    found = load(folder(zebra=GOOD, age=GOOD, _shared="x = 1\n"), Rule)
    assert list(found) == ["age", "zebra"]
    assert found["age"].judge(3) == 3


def test_the_registry_is_frozen(folder: Folder) -> None:
    with pytest.raises(TypeError):
        load(folder(age=GOOD), Rule)["new"] = 1  # type: ignore[index]


def test_an_empty_folder_has_no_plugins(folder: Folder) -> None:
    assert not load(folder(), Rule)


def test_a_file_without_the_constant_is_named(folder: Folder) -> None:
    with pytest.raises(SettingsError, match=r"/age\.py: no constant PLUGIN"):
        load(folder(age="x = 1\n"), Rule)


def test_a_plugin_of_the_wrong_shape_is_named_with_what_it_lacks(folder: Folder) -> None:
    with pytest.raises(SettingsError, match=r"/age\.py: PLUGIN is no Rule: it lacks judge, weight"):
        load(folder(age="PLUGIN = 1\n"), Rule)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A third party's distribution with these entry points."""

    def install(lines: str) -> None:
        (tmp_path / "third_rule.py").write_text(GOOD)
        info = tmp_path / "third-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: third\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[neap.test.plugins]\n{lines}\n")
        importlib.invalidate_caches()

    monkeypatch.syspath_prepend(tmp_path)
    return install


def test_installed_distributions_add_theirs(folder: Folder, installed: Callable[[str], None]) -> None:
    installed("third = third_rule\nfourth = third_rule:PLUGIN")
    assert list(load(folder(age=GOOD), Rule, group="neap.test.plugins")) == ["age", "fourth", "third"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            "age = third_rule",
            r"entry point age = third_rule of third: a plugin named 'age' is already there, in .*/age\.py",
        ),
        ("lost = no_such_module", "entry point lost = no_such_module of third: No module named 'no_such_module'"),
        ("odd = third_rule:Nothing", "has no attribute 'Nothing'"),
    ],
)
def test_a_bad_entry_point_is_named(folder: Folder, installed: Callable[[str], None], line: str, told: str) -> None:
    installed(line)
    with pytest.raises(SettingsError, match=told):
        load(folder(age=GOOD), Rule, group="neap.test.plugins")
