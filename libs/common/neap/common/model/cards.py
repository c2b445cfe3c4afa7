"""How much memory a card of a known model has, in MiB, as its driver reports it.

The sysfs of a card does not say; with NVML it would be asked for. Reporter and virtual hosts share this table, so
that both mean the same card. Keys are short names, as in the openb trace and in people's mouths.

Source: NVIDIA data sheets for the nominal sizes (T4 16 GB, P100 16 GB, V100 16 and 32 GB, A10 24 GB, A100 40 and
80 GB, H100 80 GB, H200 141 GB); the values are what the driver shows of them, ECC on, and differ by a percent
between driver versions. G2 and G3 are undisclosed types of the openb trace: *we chose* 24 GiB (its 96-core, 384 GiB
hosts carry eight) and 32 GiB; nothing but accounting depends on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

MEMORY_MIB: Final[Mapping[str, int]] = {
    "A10": 23028,
    "A100-40G": 40960,
    "A100-80G": 81920,
    "G2": 24576,
    "G3": 32768,
    "H100": 81559,
    "H200": 143771,
    "P100": 16280,
    "T4": 15360,
    "V100M16": 16160,
    "V100M32": 32510,
}

# What the driver calls the model in /proc/driver/nvidia/gpus/*/information.
PRODUCT: Final[Mapping[str, str]] = {
    "A10": "NVIDIA A10",
    "A100-40G": "NVIDIA A100-SXM4-40GB",
    "A100-80G": "NVIDIA A100-SXM4-80GB",
    "G2": "G2",
    "G3": "G3",
    "H100": "NVIDIA H100 80GB HBM3",
    "H200": "NVIDIA H200",
    "P100": "Tesla P100-PCIE-16GB",
    "T4": "Tesla T4",
    "V100M16": "Tesla V100-SXM2-16GB",
    "V100M32": "Tesla V100-SXM2-32GB",
}
_MODEL: Final[Mapping[str, str]] = {product: model for model, product in PRODUCT.items()}


def model_of(product: str) -> str:
    """The short name of what the driver calls a card; an unknown product stays as it is."""
    return _MODEL.get(product.strip(), product.strip())


def memory_mib(model: str) -> int:
    """Memory of a model or product name in MiB; 0 when unknown (unknown is never guessed)."""
    return MEMORY_MIB.get(model_of(model), 0)
