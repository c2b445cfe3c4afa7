"""`neap assess DIR`: what each strategy would have given on a recorded cluster. Reads files, touches nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from neap.common.errors import InputError
from neap.console.core import assessed
from neap.console.core.export import Export, read_file
from neap.console.core.overlap import told_once
from neap.console.core.strategies import foretelling, lending, scaling, selling, sizes, tides
from neap.console.core.strategies.history import History, history_of
from neap.console.core.strategies.page import as_json, page
from neap.console.core.strategies.verdict import Verdict, unknown
from neap.virtual.policies import policy_named
from neap.virtual.replay import Load, replay, together

LARGEST: Final = 1 << 28  # bytes of one file
ENDINGS: Final = (".json", ".csv")
NOT_CPU: Final = ("memory", "gpu")  # how files begin that are of something else: `neap history import` reads memory
STRATEGIES: Final[Mapping[str, Callable[[History], Verdict]]] = {
    sizes.NAME: sizes.assess,
    selling.NAME: selling.assess,
    scaling.NAME: scaling.assess,
    tides.NAME: tides.assess,
    foretelling.NAME: foretelling.assess,
}
NAMES: Final = (lending.NAME, *STRATEGIES)


def assess_folder(
    folder: Path, *, ask: lending.Ask, policies: Sequence[str], strategies: Sequence[str], in_json: bool
) -> str:
    """The report; `strategies`: only these, with all they have to tell; none: all.

    Raises:
        InputError: names the file, and the line or series, that does not hold; or there is no such strategy.
        SettingsError: a policy does not hold.
    """
    if strange := [name for name in strategies if name not in NAMES]:
        raise InputError(f"--strategy {strange[0]}: there is no such strategy (there are: {', '.join(NAMES)})")
    wanted = strategies or NAMES
    export = read_export(folder)
    history = history_of(export, ask.cores)
    verdicts, lent = [], dict[str, Any]()
    if lending.NAME in wanted:
        verdict, lent = _lent(export, history, ask, policies)
        verdicts.append(verdict)
    verdicts += [assess(history) for name, assess in STRATEGIES.items() if name in wanted]
    if in_json:
        return json.dumps(as_json(verdicts, history, lent), indent=2)
    return page(verdicts, history, is_whole=bool(strategies))


def _lent(
    export: Export, history: History, ask: lending.Ask, policies: Sequence[str]
) -> tuple[Verdict, dict[str, Any]]:
    """Every policy on every node that is replayed."""
    named = [policy_named(name) for name in policies]
    loads, period, notes = lending.chosen(export, history, ask)
    try:
        nodes = {policy.name: [replay(load, policy, period=period) for load in loads] for policy in named}
    except InputError as error:  # a node of which never all workloads are known at once
        return unknown(lending.NAME, lending.TITLE, str(error), lending.NEEDS), {}
    totals = [together(each, f"{len(loads)} nodes", [load.capacity for load in loads]) for each in nodes.values()]
    said = {policy.name: policy.said for policy in named}
    notes += _gaps(loads, totals[0].unknown)
    return lending.verdict(totals, nodes, said, notes, history), assessed.as_json(totals, nodes, said, notes)


def _gaps(loads: Sequence[Load], unknown: float) -> list[str]:
    steps = sorted({load.step for load in loads})
    told = [f"samples every {steps[0]:g} s" + (f" to {steps[-1]:g} s" if len(steps) > 1 else "") + ", straight between"]
    return [
        *told,
        *([f"{unknown:.1%} of the time is a gap in the record: no report, nothing offered"] if unknown else []),
    ]


def read_export(folder: Path) -> Export:
    """All files of a folder that tell of CPU; what they tell twice counts once.

    Raises:
        InputError: it is no folder, has no such file, or one of them does not hold.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder")
    files = sorted(path for path in folder.iterdir() if path.suffix in ENDINGS and path.is_file())
    files = [path for path in files if not path.name.startswith(NOT_CPU)]
    if not files:
        raise InputError(f"{folder}: no file that ends in {' or '.join(ENDINGS)}")
    export = Export()
    for path in files:
        try:
            if path.stat().st_size > LARGEST:
                raise InputError(f"{path}: larger than {LARGEST} bytes")
            read_file(str(path), path.read_text(encoding="utf-8-sig"), export)
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: no UTF-8: byte {error.start}") from None
    return told_once(export)
