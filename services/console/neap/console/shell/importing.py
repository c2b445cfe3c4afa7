"""`neap history import DIR`: a usage export becomes the planner's past."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from neap.common.contract.catalogue import PAST
from neap.common.errors import InputError
from neap.common.runtime.clock import wall_seconds
from neap.console.core.export import Export, read_file
from neap.console.core.imported import Account, account, messages, told
from neap.console.shell.assessing import ENDINGS, LARGEST
from neap.console.shell.reading import open_bus

MEMORY: Final = "memory"  # how files of memory (in bytes) begin; all others are of CPU (in cores)


async def import_history(folder: Path, url: str, *, is_dry: bool) -> str:
    """Read a folder, tell the planner, and say what came of it.

    Raises:
        InputError: names the file, and the line or series, that does not hold.
        PortError: no bus.
    """
    found = read_past(folder)
    if is_dry:
        return "\n".join([*(told(one, 0) for one in found), "nothing was sent (--dry-run)"])
    said = []
    async with open_bus(url) as bus:
        for one in found:
            sent = 0
            for message, id in messages(one, wall_seconds()):
                stored = await bus.emit(PAST.at(namespace=message.namespace), message, id=id)
                sent += not stored.duplicate
            said.append(told(one, sent))
    return "\n".join(said)


def read_past(folder: Path) -> list[Account]:
    """All files of a folder, by resource.

    Raises:
        InputError: it is no folder, has no such file, or one of them does not hold.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder")
    files = sorted(path for path in folder.iterdir() if path.suffix in ENDINGS and path.is_file())
    exports = {"cpu": Export(), MEMORY: Export()}
    for path in files:
        try:
            if path.stat().st_size > LARGEST:
                raise InputError(f"{path}: larger than {LARGEST} bytes")
            export = exports[MEMORY if path.name.startswith(MEMORY) else "cpu"]
            read_file(str(path), path.read_text(encoding="utf-8-sig"), export)
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: no UTF-8: byte {error.start}") from None
    found = [account(export, resource) for resource, export in exports.items() if export.used]
    if not found:
        raise InputError(f"{folder}: no usage in any file that ends in {' or '.join(ENDINGS)}")
    return found
