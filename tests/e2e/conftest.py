"""The stack these tests share. They run only when asked for: `-m docker`, as `make e2e` does."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.e2e import images
from tests.e2e.engine import Engine, compose_command, find_engine
from tests.e2e.stack import Stack


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Whoever does not ask for containers does not even import this."""
    asked = "docker" in str(config.getoption("markexpr"))
    return None if asked or collection_path.name == "conftest.py" else True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure comes with the logs of all containers."""
    report = yield
    stack = item.funcargs.get("stack")
    if report.failed and isinstance(stack, Stack):
        report.sections.append(("containers", stack.logs()))
    return report


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    with find_engine() as found, pytest.MonkeyPatch.context() as patch:
        for name, value in found.environment.items():
            patch.setenv(name, value)
        yield found


@pytest.fixture(scope="session")
def base_image(engine: Engine) -> str:
    return images.base_image(engine)


@pytest.fixture(scope="session")
def nats_image(engine: Engine, base_image: str) -> str:
    return images.nats_image(engine, base_image)


@pytest.fixture(scope="session")
def built(engine: Engine, base_image: str, nats_image: str) -> Stack:
    """All images are there, nothing runs. The engine picks a free port for NATS."""
    environment = {
        "BASE_IMAGE": base_image,
        "NATS_IMAGE": nats_image,
        "NEAP_NATS_PORT": "0",
        "BUILD_NETWORK": "host",
        "COMPOSE_DOCKER_CLI_BUILD": "0",  # docker-compose 1 builds by itself, without buildx
    }
    stack = Stack(engine, compose_command(engine), f"neap-e2e-{os.getpid()}", environment)
    stack.build()
    return stack


@pytest.fixture(scope="session")
def stack(built: Stack) -> Iterator[Stack]:
    """The stack, running and healthy; afterwards nothing of it is left."""
    try:
        built.up()
        yield built
    finally:
        built.down()
    assert not built.leftovers()
