"""A real API server for the tests of a session: `from tests.kube.server import api_server` makes the fixture known.

The server is shared: a test makes a namespace of its own, and names its nodes as nobody else does.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator

import pytest

from neap.common.errors import PortError
from neap.common.testing.apiserver import WHY_NOT, ApiServer, assets_folder, find_assets

STRANGER = "stranger"  # a user who may do nothing


def need_assets() -> None:
    """Skip, with the reason, where the programs cannot be had; fail in CI where they could have been built."""
    try:
        find_assets()
    except PortError as error:
        if os.environ.get("CI") and shutil.which("go") and not (assets_folder() / WHY_NOT).exists():
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def api_server() -> Iterator[ApiServer]:
    """One for all tests of a process; who kills it brings it back."""
    need_assets()
    server = ApiServer(users={STRANGER: ()})
    asyncio.run(server.start())
    yield server
    asyncio.run(server.close())
