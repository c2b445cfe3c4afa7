"""`neap schedule`: what the scheduler would say to pods that nobody submitted, and what it would have done otherwise.

The scheduler is found by name and wired like every room (`runtime.launch`): the console knows nothing of it but the
contract, which is its settings, its routes and its machine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from neap.common.contract.catalogue import DRY_RUN, EXPLAIN
from neap.common.errors import InputError, PortError, SettingsError
from neap.common.model.explanation import MOST_DRY_RUN, DryRun, DryRunAnswer, ExplainRequest, Explanation
from neap.common.runtime.launch import find_room
from neap.common.runtime.machine import Machine
from neap.common.runtime.recorded import Life, read_life, repeat
from neap.common.runtime.service import Serve
from neap.common.runtime.settings import Sources
from neap.console.core.difference import as_json, compare, tell
from neap.console.core.moment import when
from neap.console.core.rerun import Facts, Outcome, Rerun, survey
from neap.console.shell.reading import open_bus
from neap.console.shell.saved import SCHEDULER, revived, save, wired
from neap.console.shell.submitting import cluster_clock, read_workloads

MOST_OFF: Final = 3  # of the re-run's own faults that are named


async def explain_pod(namespace: str, name: str, url: str) -> Explanation | None:
    """What the scheduler says now; None if no scheduler answers."""
    try:
        async with open_bus(url) as bus:
            return await bus.request(EXPLAIN, ExplainRequest(namespace=namespace, name=name))
    except PortError:
        return None


async def dry_run(file: Path, url: str, state: Path | None, config: Path | None) -> tuple[DryRunAnswer, str]:
    """Where a manifest's pods would go, and where that was asked.

    Raises:
        InputError: the manifest or the state cannot be used; names place and what is wrong.
        PortError: no scheduler answers.
    """
    workloads, _ = read_workloads(file, salt="dry-run")
    if not 1 <= len(workloads) <= MOST_DRY_RUN:
        raise InputError(f"{file}: {len(workloads)} pods; a dry run takes 1 to {MOST_DRY_RUN}")
    asked = DryRun(workloads=tuple(workloads))
    if state is not None:
        routes = revived(state, config=config).routes
        answer = next(route.answer for route in routes if isinstance(route, Serve) and route.endpoint == DRY_RUN)
        told: DryRunAnswer = answer(asked)
        return told, f"in the state saved in {state}"
    async with open_bus(url) as bus:
        return await bus.request(DRY_RUN, asked), "on the live cluster"


async def save_state(file: Path, url: str) -> str:
    """Save what a scheduler would know of the cluster now; a sentence about it.

    Raises:
        InputError: the file cannot be written.
        PortError: no bus.
    """
    async with open_bus(url) as bus:
        return await save(bus, file, (await cluster_clock(bus)).now())


class Replay:
    """A recorded life of a scheduler, lived again."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        life = self._life()
        self.has_settings = life.settings is not None
        self._settings = _converted(life.settings or {}, str(journal))
        self._seed = life.seed
        self.facts: Facts = survey(life.steps)
        if not self.facts.outcome.submitted and not self.facts.outcome.placed:
            raise InputError(f"{journal}: no workload in it")

    def repeated(self) -> str:
        """Where the recorded settings do not lead to the recorded decisions; empty if they do."""
        return repeat(self._machine(self._settings), self._life().steps)[1]

    def rerun(self, changes: Mapping[str, str]) -> Outcome:
        """The life with other settings.

        Raises:
            SettingsError: a setting that does not hold.
        """
        machine = self._machine(changed(self._settings, changes))
        return Rerun(machine, self.facts).live(self._life().steps)

    def _life(self) -> Life:
        return read_life(_lines(self._journal), service=SCHEDULER, where=str(self._journal))

    def _machine(self, settings: msgspec.Struct) -> Machine:
        return wired(settings, seed=self._seed).machine


def _lines(journal: Path) -> Any:
    try:
        with journal.open("rb") as lines:
            yield from lines
    except OSError as error:
        raise InputError(f"{journal}: cannot be read: {error.strerror}") from None


def _converted(told: Mapping[str, Any], where: str) -> msgspec.Struct:
    try:
        return msgspec.convert(told, find_room(SCHEDULER).settings)
    except msgspec.ValidationError as error:
        raise InputError(f"{where}: settings of another version: {error}") from None


def changed(settings: msgspec.Struct, changes: Mapping[str, str]) -> msgspec.Struct:
    """Settings with others in their place, in the words people use for plugins.

        gpu_share.weight=2        weights of plugins
        allocation.guests=pack    settings of plugins
        order=fit,gpu_share       settings of the scheduler; scheduler.order is the same

    Raises:
        SettingsError: names the setting and what is allowed.
    """
    room, flat = find_room(SCHEDULER), dict[str, str]()
    now = msgspec.to_builtins(settings)
    weights, tune = dict(now.get("weights", {})), dict(now.get("tune", {}))
    for written, value in changes.items():
        name = written.removeprefix(f"{SCHEDULER}.")
        first, _, rest = name.partition(".")
        if not rest or first in now:
            flat[f"{SCHEDULER}.{name}"] = value
        elif rest == "weight":
            weights[first] = _number(written, value)
        else:
            tune[name] = value
    asked = Sources(overrides=flat).load(room.settings, SCHEDULER)  # checks each by itself
    given = msgspec.to_builtins(asked)
    top = {key.split(".")[1] for key in flat}
    return _converted({**now, **{key: given[key] for key in top}, "weights": weights, "tune": tune}, "--set")


def _number(written: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise SettingsError(f"--set {written}={value}: a number is needed") from None


async def replay(journal: Path, pairs: Sequence[str], *, in_json: bool) -> str:
    """The recorded life once as it was, once with other settings, side by side.

    Raises:
        InputError: the journal cannot be read; names the line.
        SettingsError: a setting that does not hold.
    """
    changes = _pairs(pairs)
    life = Replay(journal)
    off = life.repeated()
    same = life.rerun({})
    noise = compare(life.facts.outcome, same)
    then = life.facts.outcome if not noise.moved and not noise.gained and not noise.lost else same
    found = compare(then, life.rerun(changes)) if changes else None
    if in_json:
        report = {"reproduced": not off, "off": off, "own_difference": as_json(noise)}
        return json.dumps(report | ({"changed": as_json(found)} if found else {}), indent=2)
    said = [_about(life, journal), _exact(off, known=life.has_settings)]
    if then is same:
        count = len(noise.moved) + len(noise.gained) + len(noise.lost)
        said.append(f"the re-run's own ledger answers otherwise {count} times; below, re-run is set against re-run")
    if found is not None:
        said += ["", tell(found, f"with {', '.join(f'{key}={value}' for key, value in changes.items())}")]
    return "\n".join(said)


def _pairs(pairs: Sequence[str]) -> dict[str, str]:
    told = dict[str, str]()
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise SettingsError(f"--set {pair}: write plugin.weight=NUMBER, plugin.setting=VALUE or setting=VALUE")
        told[key] = value
    return told


def _about(life: Replay, journal: Path) -> str:
    outcome = life.facts.outcome
    span = f"{when(outcome.first)}..{when(outcome.last)}"
    return (
        f"{journal}: {outcome.events} events, {len(outcome.nodes)} nodes, {len(outcome.submitted)} workloads submitted,"
        f" {len(outcome.placed)} placed, {span} (UTC)"
    )


def _exact(off: str, *, known: bool) -> str:
    assumed = "" if known else " (the journal has none: the defaults are assumed)"
    if off:
        return f"with the recorded settings{assumed} a decision is NOT as recorded: {off}"
    return f"with the recorded settings{assumed} every decision is as recorded"
