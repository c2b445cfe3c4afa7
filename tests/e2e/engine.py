"""A Docker engine for these tests: the one that answers, or one of their own that ends with them."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from neap.common.units import Seconds
from tests.conftest import ROOT, missing

STARTS: Seconds = 60.0
STOPS: Seconds = 60.0
LAST_WORDS = 4000  # characters of a failed command's output that are told


class CommandFailed(AssertionError):
    """A command did not end as it should; says which, and its last words."""


@dataclass(frozen=True)
class Engine:
    """`environment` are the variables that lead commands to it."""

    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self, *command: str, within: Seconds = 60.0, stdin: str = "", also: Mapping[str, str] | None = None) -> str:
        """What a command wrote to its output.

        Raises:
            CommandFailed: it failed, or did not end in time.
        """
        try:
            done = subprocess.run(
                command,
                input=stdin,
                cwd=ROOT,
                env={**os.environ, **self.environment, **(also or {})},
                capture_output=True,
                text=True,
                timeout=within,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise CommandFailed(
                f"{' '.join(command)}: not done in {within:g} s\n{_last(error.stdout, error.stderr)}"
            ) from None
        if done.returncode:
            raise CommandFailed(
                f"{' '.join(command)}: exit status {done.returncode}\n{_last(done.stdout, done.stderr)}"
            )
        return done.stdout

    def docker(self, *arguments: str, within: Seconds = 60.0) -> str:
        """What `docker ...` wrote, stripped."""
        return self.run("docker", *arguments, within=within).strip()

    def answers(self) -> bool:
        """Whether it is there."""
        try:
            self.docker("version", "--format", "{{.Server.Version}}", within=20)
        except CommandFailed:
            return False
        return True

    def has_image(self, tag: str) -> bool:
        """Whether an image of this name is there."""
        return bool(self.docker("image", "ls", "--quiet", tag))


@contextmanager
def find_engine() -> Iterator[Engine]:
    """The engine that $DOCKER_HOST or the usual socket leads to; else, for root, one of our own."""
    if shutil.which("docker") is None:
        missing("docker (make e2e installs it with apt when root runs it)")
    if Engine().answers():
        yield Engine()
        return
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        missing("a Docker engine that answers (root with dockerd on the path would start one)")
    with tempfile.TemporaryDirectory(prefix="neap-docker-") as home, _own(Path(home)) as own:
        yield own


@contextmanager
def _own(home: Path) -> Iterator[Engine]:
    """A daemon whose socket, images and state lie below `home`."""
    engine, log = Engine({"DOCKER_HOST": f"unix://{home}/socket"}), home / "log"
    folders = ["--data-root", f"{home}/root", "--exec-root", f"{home}/exec", "--pidfile", f"{home}/pid"]
    with log.open("wb") as sink:
        daemon = subprocess.Popen(
            ["dockerd", *folders, "--host", engine.environment["DOCKER_HOST"]],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + STARTS
        while not engine.answers():
            ended = daemon.poll() is not None
            if ended or time.monotonic() > deadline:
                raise CommandFailed(f"dockerd {'ended' if ended else 'is late'}\n{_last(log.read_text())}")
            time.sleep(0.2)
        yield engine
    finally:
        _end(daemon, home)


def _end(daemon: subprocess.Popen[bytes], home: Path) -> None:
    """Stop it, and unmount what it leaves mounted: a namespace at least."""
    daemon.terminate()
    try:
        daemon.wait(STOPS)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait(STOPS)
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for point in sorted(mounts, reverse=True):
        if Path(point).is_relative_to(home):
            subprocess.run(["umount", "--lazy", point], check=False)


def compose_command(engine: Engine) -> Sequence[str]:
    """`docker compose`, or docker-compose, whichever is there."""
    try:
        engine.docker("compose", "version")
    except CommandFailed:
        if shutil.which("docker-compose") is None:
            missing("docker compose, or docker-compose")
        return ("docker-compose",)
    return ("docker", "compose")


def _last(*outputs: str | bytes | None) -> str:
    """The end of each; a command that was cut off has left bytes."""
    texts = (output.decode(errors="replace") if isinstance(output, bytes) else output or "" for output in outputs)
    return "\n".join(text[-LAST_WORDS:] for text in texts)
