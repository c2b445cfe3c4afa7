"""How the gateway comes to know the API server: the client library at a tenth of its weight, kubeconfigs, tokens."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from neap.common.errors import SettingsError, Unavailable
from neap.gateway.shell import client
from neap.gateway.shell.client import credentials
from tests.conftest import HANG


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=HANG)


def kubeconfig(folder: Path, user: dict[str, Any], **cluster: Any) -> str:
    path = folder / "config"
    path.write_text(json.dumps({
        "current-context": "c", "clusters": [{"name": "k", "cluster": {"server": "http://127.0.0.1:1/", **cluster}}],
        "users": [{"name": "u", "user": user}], "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
    }))  # fmt: skip
    return str(path)


def test_the_clients_models_are_not_read_until_somebody_wants_them() -> None:
    answer = python("""
import sys, neap.gateway.shell.client
print([name for name in sys.modules if name.startswith("kubernetes_asyncio.client.models")])
from kubernetes_asyncio.client import ApiClient, V1Pod
print(ApiClient.__module__, V1Pod.__module__)
""")
    assert answer.stdout.splitlines() == [
        "[]", "kubernetes_asyncio.client.api_client kubernetes_asyncio.client.models.v1_pod",
    ]  # fmt: skip
    assert not answer.stderr


def test_a_library_that_was_imported_whole_is_used_as_it_is() -> None:
    answer = python("import kubernetes_asyncio; from neap.gateway.shell import client; print(client._config.__name__)")
    assert answer.stdout.strip() == "kubernetes_asyncio.config"


def test_a_library_that_is_laid_out_otherwise_is_named_with_its_version() -> None:
    answer = python(
        "import sys; sys.modules['kubernetes_asyncio.client.rest'] = None; import neap.gateway.shell.client"
    )
    assert f"kubernetes_asyncio {version('kubernetes_asyncio')} is not laid out as expected" in answer.stderr


async def test_a_kubeconfig_says_where_and_who(tmp_path: Path) -> None:
    found = await credentials(kubeconfig=kubeconfig(tmp_path, {"token": "abc"}))
    assert (found.host, await found.header()) == ("http://127.0.0.1:1", "Bearer abc")
    other = await credentials(kubeconfig=kubeconfig(tmp_path, {}), host="https://127.0.0.2:2", server_name="kubernetes")
    assert (other.host, other.server_name, await other.header()) == ("https://127.0.0.2:2", "kubernetes", "")


@pytest.mark.parametrize("text", ["", "{", "[]", "current-context: c", '{"contexts": 7}'])
async def test_a_kubeconfig_that_does_not_hold_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken"
    path.write_text(text)
    with pytest.raises(SettingsError, match="broken"):
        await credentials(kubeconfig=str(path))
    with pytest.raises(SettingsError, match="nowhere"):
        await credentials(kubeconfig=str(tmp_path / "nowhere"))


async def test_a_token_in_a_file_is_read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("one")
    found = await credentials(kubeconfig=kubeconfig(tmp_path, {"tokenFile": "token"}))
    (tmp_path / "token").write_text("two")
    assert await found.header() == "Bearer one"
    monkeypatch.setattr(client, "RENEW", -1.0)
    assert await found.header() == "Bearer two"
    (tmp_path / "token").unlink()
    with pytest.raises(Unavailable):
        await found.header()


async def test_a_token_that_is_not_taken_is_asked_for_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = tmp_path / "plugin"
    plugin.write_text(f"""#!/bin/sh
echo x >>{tmp_path}/asked
echo '{{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {{"token": "'$(wc -l <{tmp_path}/asked)'"}}}}'
""")
    plugin.chmod(0o755)
    user = {
        "exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(plugin), "interactiveMode": "Never"}
    }
    found = await credentials(kubeconfig=kubeconfig(tmp_path, user))
    assert [await found.header() for _ in range(3)] == ["Bearer 1"] * 3
    monkeypatch.setattr(client, "DOUBTED", -1.0)
    found.doubt()
    assert [await found.header() for _ in range(3)] == ["Bearer 2"] * 3
