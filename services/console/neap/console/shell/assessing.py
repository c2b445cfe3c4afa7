"""`neap assess DIR`: what each way to lend would give on a recorded cluster. Reads files, touches nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from neap.common.errors import InputError
from neap.console.core.assessed import as_json, text
from neap.console.core.export import Export, loads_of, read_file
from neap.virtual.policies import policy_named
from neap.virtual.replay import Load, replay, together

LARGEST: Final = 1 << 28  # bytes of one file
ENDINGS: Final = (".json", ".csv")


def assess_folder(folder: Path, *, cores: int, policies: Sequence[str], period: float, most: int, in_json: bool) -> str:
    """The report.

    Raises:
        InputError: names the file, and the line or series, that does not hold.
        SettingsError: a policy does not hold.
    """
    chosen = [policy_named(name) for name in policies]
    loads, notes = loads_of(read_export(folder), cores)
    if len(loads) > most:
        notes.append(f"{most} of {len(loads)} nodes were replayed, evenly chosen by name (--nodes)")
        loads = [loads[index * len(loads) // most] for index in range(most)]
    nodes = {policy.name: [replay(load, policy, period=period) for load in loads] for policy in chosen}
    totals = [together(each, f"{len(loads)} nodes", [load.capacity for load in loads]) for each in nodes.values()]
    said = {policy.name: policy.said for policy in chosen}
    notes += _gaps(loads, nodes[chosen[0].name][0].unknown if len(loads) == 1 else totals[0].unknown)
    if in_json:
        return json.dumps(as_json(totals, nodes, said, notes), indent=2)
    return text(totals, nodes, said, notes)


def _gaps(loads: Sequence[Load], unknown: float) -> list[str]:
    steps = sorted({load.step for load in loads})
    told = [f"samples every {steps[0]:g} s" + (f" to {steps[-1]:g} s" if len(steps) > 1 else "") + ", straight between"]
    return [
        *told,
        *([f"{unknown:.1%} of the time is a gap in the record: no report, nothing offered"] if unknown else []),
    ]


def read_export(folder: Path) -> Export:
    """All files of a folder.

    Raises:
        InputError: it is no folder, has no such file, or one of them does not hold.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder")
    files = sorted(path for path in folder.iterdir() if path.suffix in ENDINGS and path.is_file())
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
    return export
