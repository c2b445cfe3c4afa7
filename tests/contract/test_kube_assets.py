"""The programs of a real API server: which version, where they are looked for, and what is said where they cannot be had."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from neap.common.errors import PortError
from neap.common.kube.objects import NAMESPACES
from neap.common.testing.apiserver import KUBERNETES, WHY_NOT, ApiServer, find_assets
from neap.gateway.shell.http import connect
from tests.conftest import ROOT, SOON
from tests.kube.server import STRANGER

ASSETS = ROOT / "tests" / "kube" / "assets"
PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
TOOLS = ("bash", "dirname", "env", "mkdir", "sed")


def build(folder: Path, path: str) -> str:
    done = subprocess.run(
        [str(ASSETS / "build")],
        check=True,
        capture_output=True,
        text=True,
        timeout=SOON,
        env={"PATH": path, "KUBEBUILDER_ASSETS": str(folder)},
    )
    return done.stdout.strip()


@pytest.fixture
def no_go(tmp_path: Path) -> str:
    """A PATH on which there is no Go toolchain."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS:
        (folder / tool).symlink_to(shutil.which(tool) or tool)
    return str(folder)


def test_the_version_that_is_looked_for_is_the_one_that_is_pinned() -> None:
    pinned = re.search(r"k8s.io/kubernetes v(\S+)", (ASSETS / "go.mod").read_text())
    assert pinned is not None
    assert pinned[1] == KUBERNETES


def test_without_a_toolchain_it_is_said_and_remembered(
    no_go: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "assets"
    assert "there is no Go toolchain on the PATH" in build(folder, no_go)
    assert (folder / WHY_NOT).exists()
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(folder))
    with pytest.raises(PortError, match="no etcd in .*assets .there is no Go toolchain"):
        find_assets()


def test_what_is_there_is_left_alone(no_go: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "assets"
    folder.mkdir()
    for name in PROGRAMS:
        (folder / name).symlink_to("/bin/false")
    assert build(folder, no_go) == f"kube-assets: Kubernetes {KUBERNETES} is in {folder}"
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(folder))
    assert find_assets() == folder


async def test_a_program_that_ends_at_once_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROGRAMS:
        (tmp_path / name).symlink_to("/bin/false")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    server = ApiServer()
    with pytest.raises(PortError, match="ended at once: it said nothing"):
        await server.start()
    await server.close()


@pytest.mark.kube
async def test_kubectl_answers_and_complains(api_server: ApiServer) -> None:
    assert f"Server Version: v{KUBERNETES}" in await api_server.kubectl("version")
    with pytest.raises(PortError, match="Forbidden"):
        await api_server.kubectl("get", "pods", user=STRANGER)
    pipe = await api_server.kubectl("create", "-f", "-", "--dry-run=server", said=api_server_namespace())
    assert "created (server dry run)" in pipe


def api_server_namespace() -> str:
    return '{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kubectl-was-here"}}'


@pytest.mark.kube
async def test_a_frozen_server_is_silent_and_then_goes_on(api_server: ApiServer) -> None:
    async with await connect(kubeconfig=api_server.kubeconfig, call=SOON) as kube:
        assert await kube.is_ready()
        api_server.freeze()
        asked = asyncio.ensure_future(kube.list(NAMESPACES))
        await asyncio.wait([asked], timeout=0.5)
        assert not asked.done()
        api_server.thaw()
        assert (await asked).items
