"""Settings come from four places, in order, and every mistake is named."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest

from neap.common.errors import InputError, SettingsError
from neap.common.runtime import settings as subject
from neap.common.runtime.setting import Duration, Size
from neap.common.units import Bytes, Cores, MilliCores, Seconds


class Rank(StrEnum):
    AGE = "age"
    USE = "use"


class Pid(msgspec.Struct, frozen=True, kw_only=True):
    gain: Annotated[float, msgspec.Meta(gt=0)] = 0.5  # of the error
    window: Seconds = 60.0  # that is averaged


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    node: str = ""
    """Name of the node."""
    period: Duration = 1.0  # between two reports
    # What is kept back,
    # whatever happens.
    floor: Bytes = 2 << 30
    quota: Annotated[int, msgspec.Meta(description="Most that is lent.", ge=0)] = 7
    lent: Cores = 4.0
    request: MilliCores = 100  # of a guest
    cache: Size = 0
    rules: tuple[str, ...] = ("a", "b")
    windows: tuple[Seconds, ...] = ()
    rank: Rank = Rank.AGE
    mode: Literal["soft", "hard"] = "soft"
    dry_run: bool = False
    limit: Seconds | None = None
    weights: dict[str, float] = msgspec.field(default_factory=lambda: {"cpu": 1.0})
    pid: Pid = Pid(gain=0.7)

    def __post_init__(self) -> None:
        if self.period > 3600:
            raise InputError(f"period {self.period} s is longer than an hour")


def load(
    file: Path | None = None, env: dict[str, str] | None = None, overrides: dict[str, str] | None = None
) -> Settings:
    return subject.load(Settings, "advisor", file=file, environment=env or {}, overrides=overrides or {})


def explain(file: Path | None = None, env: dict[str, str] | None = None) -> dict[str, subject.Row]:
    rows = subject.explain(Settings, "advisor", file=file, environment=env or {}, overrides={})
    return {row.key: row for row in rows}


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    file = tmp_path / "neap.toml"
    file.write_text('[advisor]\nperiod = "2s"\nlent = 3\n[advisor.pid]\nwindow = "1m30s"\n[reporter]\nx = 1\n')
    return file


def test_without_any_source_the_defaults_hold() -> None:
    assert load() == Settings()


def test_each_source_wins_over_the_one_before(toml: Path) -> None:
    env, overrides = {"NEAP_ADVISOR__PERIOD": "3s"}, {"advisor.period": "4s", "reporter.x": "2"}
    assert [load().period, load(toml).period, load(toml, env).period, load(toml, env, overrides).period] == [1, 2, 3, 4]
    assert load(toml).pid == Pid(gain=0.7, window=90.0)


@pytest.mark.parametrize(
    ("variable", "text", "read"),
    [
        ("PERIOD", "1h", 3600.0),
        ("PERIOD", "250ms", 0.25),
        ("PERIOD", "7", 7.0),
        ("FLOOR", "1.5Gi", 3 << 29),
        ("FLOOR", "1024", 1024),
        ("CACHE", "2Mi", 2 << 20),
        ("LENT", "500m", 0.5),
        ("REQUEST", "500m", 500),
        ("REQUEST", "1500", 1500),
        ("RULES", "x, y,z", ("x", "y", "z")),
        ("RULES", "", ()),
        ("WINDOWS", "5s,1m", (5.0, 60.0)),
        ("RANK", "use", Rank.USE),
        ("MODE", "hard", "hard"),
        ("DRY_RUN", "yes", True),
        ("DRY_RUN", "0", False),
        ("LIMIT", "5s", 5.0),
        ("LIMIT", "none", None),
        ("WEIGHTS__GPU", "2.5", {"cpu": 1.0, "gpu": 2.5}),
        ("WEIGHTS", '{"gpu": 3}', {"gpu": 3.0}),
    ],
)
def test_people_write_values_with_units(variable: str, text: str, read: object) -> None:
    assert getattr(load(env={f"NEAP_ADVISOR__{variable}": text}), variable.split("__", maxsplit=1)[0].lower()) == read


def test_a_group_is_entered_with_two_underscores() -> None:
    assert load(env={"NEAP_ADVISOR__PID__GAIN": "0.1"}).pid == Pid(gain=0.1)


@pytest.mark.parametrize(
    ("variable", "text", "told"),
    [
        ("PEROID", "5s", ["NEAP_ADVISOR__PEROID", "did you mean 'period'"]),
        ("PID__GIAN", "5", ["NEAP_ADVISOR__PID__GIAN", "did you mean 'pid.gain'"]),
        ("PERIOD", "-1", ["NEAP_ADVISOR__PERIOD", "'-1'", ">= 0"]),
        ("PERIOD", "soon", ["period", "'soon'", "250ms, 5s, 1h30m"]),
        ("LENT", "nan", ["finite"]),
        ("PERIOD", "2h", ["NEAP_ADVISOR__PERIOD", "7200.0 s is longer than an hour"]),
        ("PID__GAIN", "0", ["pid.gain", "> 0"]),
        ("FLOOR", "0.5", ["whole number of bytes"]),
        ("QUOTA", "5s", ["not a whole number", "'5s'"]),
        ("RANK", "size", ["'size'", "age, use"]),
        ("MODE", "firm", ["hard, soft"]),
        ("DRY_RUN", "maybe", ["'maybe'", "true, false"]),
        ("PID", "5", ["advisor.pid is a group", "pid.gain", "pid.window"]),
        ("WEIGHTS", "five", ["weights", "'five'"]),
    ],
)
def test_a_mistake_is_named_with_its_place_and_what_is_allowed(variable: str, text: str, told: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        load(env={f"NEAP_ADVISOR__{variable}": text})
    assert [part for part in told if part not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[advisor]\nperoid = 1\n", ["[advisor]", "'peroid'", "did you mean 'period'"]),
        ("[advisor]\nperiod = -1\n", ["period = -1", ">= 0"]),
        ("[advisor]\nfloor = 1.5\n", ["floor = 1.5"]),
        ("[advisor]\npid = 1\n", ["advisor.pid is a group"]),
        ("advisor = 1\n", ["advisor is a group"]),
        ("[advisor\n", ["not TOML"]),
    ],
)
def test_a_mistake_in_the_file_names_the_file(tmp_path: Path, content: str, told: list[str]) -> None:
    file = tmp_path / "neap.toml"
    file.write_text(content)
    with pytest.raises(SettingsError) as caught:
        load(file)
    assert [part for part in [str(file), *told] if part not in str(caught.value)] == []


def test_a_table_of_plain_values_may_be_written_with_dots(tmp_path: Path) -> None:
    file = tmp_path / "neap.toml"
    file.write_text("[advisor.weights]\nrule.margin = 2\n'rule.step' = 3\n")
    assert load(file).weights == {"rule.margin": 2.0, "rule.step": 3.0}
    assert load(env={"NEAP_ADVISOR__WEIGHTS__RULE__STEP": "4"}).weights == {"cpu": 1.0, "rule.step": 4.0}


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"absent\.toml: cannot be read: No such file"):
        load(tmp_path / "absent.toml")


def test_a_field_without_default_must_be_set() -> None:
    class Strict(msgspec.Struct, frozen=True, kw_only=True):
        url: str

    with pytest.raises(SettingsError, match=r"gateway\.url must be set \(environment NEAP_GATEWAY__URL"):
        subject.load(Strict, "gateway", file=None, environment={}, overrides={})


@pytest.mark.parametrize(
    ("env", "overrides", "told"),
    [
        ({"NEAP_ADVISR__PERIOD": "5s"}, {}, "NEAP_ADVISR__PERIOD: unknown section 'advisr'; did you mean 'advisor'"),
        ({}, {"advisr.period": "5s"}, "--set advisr.period: unknown section"),
    ],
)
def test_a_section_of_nobody_is_refused(env: dict[str, str], overrides: dict[str, str], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        subject.check_sections(["advisor"], file=None, environment=env, overrides=overrides)


def test_a_section_of_nobody_in_the_file_is_refused(toml: Path) -> None:
    with pytest.raises(SettingsError, match=r"neap\.toml: unknown section 'reporter'"):
        subject.check_sections(
            ["advisor"], file=toml, environment={"PATH": "/", "NEAP_ADVISOR_PORT": "1"}, overrides={}
        )


def test_explain_shows_value_origin_doc_and_bounds(toml: Path) -> None:
    rows = explain(toml, {"NEAP_ADVISOR__PID__GAIN": "0.1"})
    assert rows["advisor.period"] == subject.Row(
        "advisor.period", "2s", f"{toml} [advisor]", "between two reports", "seconds, or 250ms, 5s, 1h30m, >= 0"
    )
    assert rows["advisor.pid.gain"].origin == "environment NEAP_ADVISOR__PID__GAIN"
    assert rows["advisor.pid.window"].value == "1m30s"
    assert rows["advisor.floor"].value == "2Gi"
    assert rows["advisor.limit"].value == "none"
    assert rows["advisor.rules"].value == "a,b"
    assert rows["advisor.mode"].allowed == "hard, soft"
    assert rows["advisor.weights"].origin == "default"


def test_docs_come_from_description_string_or_comments() -> None:
    rows = explain()
    assert rows["advisor.node"].doc == "Name of the node."
    assert rows["advisor.floor"].doc == "What is kept back, whatever happens."
    assert rows["advisor.quota"].doc == "Most that is lent."
    assert rows["advisor.request"].doc == "of a guest"
    assert rows["advisor.pid.window"].doc == "that is averaged"


def test_every_process_setting_is_documented() -> None:
    rows = subject.explain(subject.ProcessSettings, "process", file=None, environment={}, overrides={})
    assert [row.key for row in rows if not row.doc] == []


def test_what_explain_shows_can_be_given_back() -> None:
    rows = explain(env={"NEAP_ADVISOR__PERIOD": "90.25", "NEAP_ADVISOR__FLOOR": "1000001"})
    env = {f"NEAP_{row.key.replace('.', '__').upper()}": row.value for row in rows.values()}
    assert load(env=env) == load(env={"NEAP_ADVISOR__PERIOD": "90.25", "NEAP_ADVISOR__FLOOR": "1000001"})
