"""The house rules that a machine can check (see CONTRIBUTING.md)."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for top in ("libs", "services") for path in (ROOT / top).rglob("*.py"))
PLUGINS = [path for path in SOURCES if path.parent.name == "plugins" and not path.name.startswith("_")]
CORE = [path for path in SOURCES if {"core", "plugins"} & set(path.parts)]
FORBIDDEN_WORDS = {
    "manager", "helper", "helpers", "util", "utils", "base", "abstract", "impl", "info", "data", "misc",
}  # fmt: skip
LONGEST_FILE, LONGEST_FUNCTION = 400, 40


def short(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tracked() -> list[str]:
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [name for name in listing.stdout.splitlines() if (ROOT / name).is_file()]


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(path.read_text())
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its signature and docstring."""
    statements = function.body[1:] if ast.get_docstring(function) and len(function.body) > 1 else function.body
    return (statements[-1].end_lineno or 0) - statements[0].lineno + 1


@pytest.mark.parametrize("path", SOURCES, ids=short)
def test_a_file_is_short_and_says_what_it_is(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= LONGEST_FILE, f"{short(path)} is too long: which room is missing?"
    assert ast.get_docstring(ast.parse(text)), f"{short(path)} has no docstring"


@pytest.mark.parametrize("path", SOURCES, ids=short)
def test_a_function_fits_on_a_screen(path: Path) -> None:
    long = {f.name: body_lines(f) for f in functions(path) if body_lines(f) > LONGEST_FUNCTION}
    assert not long, f"{short(path)}: {long}"


@pytest.mark.parametrize("path", SOURCES, ids=short)
def test_names_are_domain_nouns(path: Path) -> None:
    tree = ast.parse(path.read_text())
    names = {
        node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    }
    names.add(path.stem)
    words = {(name, word.lower()) for name in names for word in re.findall(r"[A-Z]?[a-z]+", name)}
    assert not [pair for pair in words if pair[1] in FORBIDDEN_WORDS]


@pytest.mark.parametrize("path", CORE, ids=short)
def test_core_is_synchronous_and_reads_no_clock(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef | ast.Await)]
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not imported & {
        "time",
        "asyncio",
        "os",
        "pathlib",
        "socket",
        "logging",
        "structlog",
        "neap.common.runtime.clock",
    }


@pytest.mark.parametrize("path", PLUGINS, ids=short)
def test_a_plugin_says_formula_units_and_source(path: Path) -> None:
    text = path.read_text()
    doc = ast.get_docstring(ast.parse(text)) or ""
    assert "Source:" in doc, f"{short(path)}: no Source: in the docstring"
    assert re.search(r"^PLUGIN\b", text, re.MULTILINE), f"{short(path)}: no PLUGIN"


@pytest.mark.parametrize("path", SOURCES, ids=short)
def test_public_lists_are_sorted(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            names = ast.literal_eval(node.value)
            assert list(names) == sorted(names), short(path)


def test_broad_excepts_live_only_where_a_process_ends() -> None:
    found = [short(path) for path in SOURCES if re.search(r"except (Base)?Exception\b", path.read_text())]
    assert set(found) <= {"libs/common/neap/common/runtime/main.py", "libs/common/neap/common/runtime/driver.py"}


def test_the_lock_has_a_hash_per_pin_and_names_no_host() -> None:
    text = (ROOT / "requirements.lock").read_text()
    pins = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)
    assert all("--hash=sha256:" in pin for pin in pins if "==" in pin)
    assert "://" not in text
    assert not (ROOT / "uv.lock").exists() or "uv.lock" not in tracked()


REGISTRIES = (
    "py" + "pi.org",
    "python" + "hosted.org",
    "registry.npm" + "js.org",
    "proxy.go" + "lang.org",
    "deb.deb" + "ian.org",
)


def test_no_path_of_one_machine_and_no_registry_is_named() -> None:
    path_of_a_machine = re.compile(r"/(?:home|root|work|Users)/\w")
    for name in tracked():
        path = ROOT / name
        if path == Path(__file__) or path.suffix in {".bz2", ".xz", ".png"} or name.startswith("examples/machines"):
            continue
        text = path.read_text(errors="replace")
        match = path_of_a_machine.search(text)
        assert not match, f"{name}: {match and match[0]}"
        assert not [host for host in REGISTRIES if host in text], name


def test_a_todo_names_its_issue() -> None:
    marker = "TO" + "DO"
    for path in SOURCES:
        for line in path.read_text().splitlines():
            assert marker not in line or re.search(marker + r" #\d+", line), f"{short(path)}: {line.strip()}"


def test_every_member_has_one_version() -> None:
    versions = {
        re.search(r'^version = "(.+)"', path.read_text(), re.MULTILINE)[1]  # type: ignore[index]
        for path in [
            *ROOT.glob("libs/*/pyproject.toml"),
            *ROOT.glob("services/*/pyproject.toml"),
            ROOT / "pyproject.toml",
        ]
    }
    assert len(versions) == 1
