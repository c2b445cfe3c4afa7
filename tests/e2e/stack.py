"""compose.yaml as a running stack: up, asked, stopped, and gone."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neap.common.units import Seconds
from tests.e2e.engine import CommandFailed, Engine
from tests.e2e.images import mirror_arguments

ROOMS = ("reporter", "advisor", "enforcer", "evictor", "gpushare", "scheduler", "planner")
SERVICES = ("nats", "virtual", *ROOMS)
HEALTHY: Seconds = 120.0
UNPRIVILEGED = 65532  # user id in every container
LINES_TOLD = "150"  # per container, when a test fails


@dataclass(frozen=True)
class Stack:
    """One project of docker compose. `environment` fills in compose.yaml."""

    engine: Engine
    command: Sequence[str]
    project: str
    environment: Mapping[str, str]

    def compose(self, *arguments: str, within: Seconds = 120.0, stdin: str = "") -> str:
        """What `docker compose ...` wrote."""
        return self.engine.run(
            *self.command, "-p", self.project, *arguments, within=within, stdin=stdin, also=self.environment
        )

    def build(self) -> None:
        """All images. The first one makes the layers that all share."""
        self.compose("--profile", "tools", "build", *mirror_arguments(), within=600)

    def up(self) -> None:
        """Start, and return once everything says that it is ready.

        Raises:
            CommandFailed: with the logs of all containers.
        """
        try:
            self.compose("up", "-d", "--no-build", within=2 * HEALTHY)
            self.wait_healthy()
        except CommandFailed as error:
            raise CommandFailed(f"{error}\n{self.logs()}") from None

    def wait_healthy(self) -> None:
        """Until every container is healthy.

        Raises:
            CommandFailed: not in time; says who is not, and what its last look said.
        """
        deadline = time.monotonic() + HEALTHY
        while unwell := self.unwell():
            if time.monotonic() > deadline:
                raise CommandFailed(f"not healthy in {HEALTHY:g} s: {unwell}")
            time.sleep(0.5)

    def unwell(self) -> dict[str, str]:
        """Services that are not healthy, each with its last words about it."""
        found = self.containers()
        unwell = {}
        for service in SERVICES:
            health = found[service]["State"].get("Health", {}) if service in found else {}
            if health.get("Status") != "healthy":
                looks = health.get("Log") or [{"Output": "no look yet"}]
                unwell[service] = f"{health.get('Status', 'absent')}: {looks[-1]['Output'].strip()[-200:]}"
        return unwell

    def containers(self) -> dict[str, dict[str, Any]]:
        """The containers of the services, as the engine describes them."""
        ids = self._mine("ps", "--all", "--quiet")
        described = json.loads(self.engine.docker("inspect", *ids)) if ids else []
        return {each["Config"]["Labels"]["com.docker.compose.service"]: each for each in described}

    def inside(self, service: str, *command: str) -> str:
        """What a command wrote inside the container of a service."""
        return self.engine.docker("exec", self.containers()[service]["Id"], *command)

    def neap(self, *arguments: str, manifest: Path | None = None) -> str:
        """What the `neap` command wrote, run in a container of its own."""
        mount = ["-v", f"{manifest}:/manifest.yaml:ro"] if manifest else []
        return self.compose("run", "--rm", "-T", "--no-deps", *mount, "console", *arguments)

    @property
    def url(self) -> str:
        """Where the bus is, seen from here."""
        return f"nats://{self.compose('port', 'nats', '4222').strip()}"

    def logs(self) -> str:
        """The last lines of every container."""
        return self.compose("logs", "--no-color", f"--tail={LINES_TOLD}")

    def down(self) -> None:
        """End it, and remove what it left."""
        self.compose("--profile", "tools", "down", "--volumes", "--remove-orphans", within=240)

    def leftovers(self) -> dict[str, list[str]]:
        """Containers, networks and volumes that still exist."""
        found = {
            "containers": self._mine("ps", "--all", "--quiet"),
            "networks": self._mine("network", "ls", "--quiet"),
            "volumes": self._mine("volume", "ls", "--quiet"),
        }
        return {kind: names for kind, names in found.items() if names}

    def _mine(self, *listing: str) -> list[str]:
        return self.engine.docker(*listing, "--filter", f"label=com.docker.compose.project={self.project}").split()
