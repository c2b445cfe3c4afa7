"""NVIDIA cards as the driver lists them: /proc/driver/nvidia/gpus/<PCI address>/information.

The file has lines "Model:", "GPU UUID:", "Bus Location:", "GPU Excluded:"; it does not tell the memory, which is
looked up by model (neap.common.model.cards). Cards are numbered in PCI order, as NVML numbers them.
Source: NVIDIA driver README, chapter "The /proc interface".
"""

from __future__ import annotations

from collections.abc import Mapping

from neap.common.model.cards import memory_mib, model_of
from neap.common.model.topology import Card
from neap.reporter.core.topology.near import NOWHERE, Near
from neap.reporter.core.topology.snapshot import CARD_LIMIT, NVIDIA_DIR, Snapshot


def cards(seen: Snapshot, near: Mapping[str, Near], warnings: list[str]) -> tuple[Card, ...]:
    """All cards the driver has not excluded."""
    found: list[Card] = []
    for name in sorted(seen.names.get(NVIDIA_DIR, ()))[:CARD_LIMIT]:
        text = seen.files.get(f"{NVIDIA_DIR}/{name}/information")
        if text is None:
            warnings.append(f"card {name}: its information file cannot be read")
            continue
        fields = _fields(text)
        if fields.get("GPU Excluded", "No") == "Yes":
            warnings.append(f"card {name}: excluded by the driver")
            continue
        address, model = fields.get("Bus Location", name).lower(), model_of(fields.get("Model", ""))
        if (size := memory_mib(model)) == 0:
            warnings.append(f"memory of card model {model!r} unknown: nothing of it can be shared")
        found.append(
            Card(
                index=len(found),
                uuid=fields.get("GPU UUID", ""),
                model=model,
                memory_mib=size,
                numa=near[address].numa if address in near else NOWHERE,
                pci=address,
            )
        )
    return tuple(found)


def _fields(text: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in text.splitlines()[:64])
    return {key.strip(): value.strip(" \t\0")[:128] for key, colon, value in pairs if colon}
