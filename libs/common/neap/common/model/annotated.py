"""What a pod says in annotations about where and with whom it runs.

    neap.io/gang: train                       or label pod-group.scheduling.sigs.k8s.io, scheduling.x-k8s.io/pod-group
    neap.io/gang-size: "4"                    members that start together; else minMember of the PodGroup submitted with it
    neap.io/gang-domain: example.com/switch   all members in one domain of this node label
    neap.io/gang-strength: hard | soft        in one domain or not at all (the default); or preferably
    neap.io/datasets: imagenet, coco          it reads
    neap.io/gpu-models: H20, A100             cards that will do
    neap.io/device-affinity: '{"gpus": 2, "nics": 1, "level": "pcie-switch", "strength": "hard", "nic_percent": 50}'

Without `gpus` as many as the cards the containers ask for, and as much of each. What cannot be read is refused with
the value, never taken for "nothing asked".
Source: scheduler-plugins (PodGroup labels, minMember); model/affinity.py (device asks).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from neap.common.errors import InputError
from neap.common.model.affinity import DeviceAsk, Strength
from neap.common.model.device_tree import WHOLE, Level
from neap.common.model.gpu import gpu_ask
from neap.common.model.scheduling import Gang
from neap.common.model.topology import ZoneKind
from neap.common.model.workload import Container

GANG: Final = "neap.io/gang"
GANG_LABELS: Final = ("pod-group.scheduling.sigs.k8s.io", "scheduling.x-k8s.io/pod-group")
GANG_SIZE: Final = "neap.io/gang-size"
GANG_DOMAIN: Final = "neap.io/gang-domain"
GANG_STRENGTH: Final = "neap.io/gang-strength"
DATASETS: Final = "neap.io/datasets"
GPU_MODELS: Final = "neap.io/gpu-models"
DEVICES: Final = "neap.io/device-affinity"
MOST_MEMBERS: Final = 10_000
CLASSES: Final[Mapping[str, int]] = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}


class _Devices(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    gpus: int | None = None
    nics: int = 0
    fabric: ZoneKind = ZoneKind.RDMA
    gpu_percent: int | None = None
    nic_percent: int = WHOLE
    level: Level = Level.SWITCH
    strength: Strength = Strength.SOFT


def gang_of(
    annotations: Mapping[str, str], labels: Mapping[str, str], least: Mapping[str, int] | None = None
) -> Gang | None:
    """The gang a pod is of; `least` is what PodGroups of its namespace say, by name.

    Raises:
        InputError: names the annotation and the value.
    """
    names = {key: text for key, text in ((GANG, annotations.get(GANG)), *((key, labels.get(key)) for key in GANG_LABELS)) if text is not None}  # fmt: skip
    if not names:
        alone = [key for key in (GANG_SIZE, GANG_DOMAIN, GANG_STRENGTH) if key in annotations]
        if alone:
            raise InputError(f"{alone[0]}={annotations[alone[0]]!r:.64} without {GANG}: of no gang")
        return None
    if len(set(names.values())) > 1:
        raise InputError(f"gang asked twice and differently: {names!r:.200}")
    name = next(iter(names.values()))
    if not 1 <= len(name) <= 253:
        raise InputError(f"{next(iter(names))}={name!r:.64} is no name")
    strength = annotations.get(GANG_STRENGTH, "hard")
    if strength not in ("hard", "soft"):
        raise InputError(f"{GANG_STRENGTH}={strength!r:.64} is neither hard nor soft")
    return Gang(
        name=name,
        least=_size(annotations.get(GANG_SIZE), name, least or {}),
        domain=annotations.get(GANG_DOMAIN, ""),
        hard=strength == "hard",
    )


def _size(text: str | None, name: str, least: Mapping[str, int]) -> int:
    told = str(least.get(name, "")) if text is None else text
    if not told:
        raise InputError(f"gang {name!r:.64}: {GANG_SIZE} is missing; how many start together?")
    size = int(told) if told.isascii() and told.isdigit() and len(told) <= len(str(MOST_MEMBERS)) else 0
    if not 1 <= size <= MOST_MEMBERS:
        raise InputError(f"gang {name!r:.64}: {GANG_SIZE}={told!r:.64} is not 1..{MOST_MEMBERS}")
    return size


def names_of(annotations: Mapping[str, str], key: str) -> tuple[str, ...]:
    """A comma list, each name once, in order.

    Raises:
        InputError: an empty name.
    """
    text = annotations.get(key)
    if text is None:
        return ()
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    if "" in names:
        raise InputError(f"{key}={text!r:.64}: an empty name in the list")
    return names


def devices_of(annotations: Mapping[str, str], containers: Sequence[Container]) -> DeviceAsk | None:
    """The GPUs and network cards a pod wants near each other.

    Raises:
        InputError: names what is wrong with which value.
    """
    text = annotations.get(DEVICES)
    if text is None:
        return None
    try:
        asked = msgspec.json.decode(text, type=_Devices)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise InputError(f"{DEVICES}={text!r:.64}: {error!s:.200}") from None
    asks = [ask for container in containers if (ask := gpu_ask(container)) is not None]
    gpus = sum(ask.cards for ask in asks) if asked.gpus is None else asked.gpus
    percent = max((ask.core for ask in asks), default=WHOLE) if asked.gpu_percent is None else asked.gpu_percent
    try:
        return DeviceAsk(
            gpus=gpus,
            nics=asked.nics,
            fabric=asked.fabric,
            gpu_percent=percent,
            nic_percent=asked.nic_percent,
            level=asked.level,
            strength=asked.strength,
        )
    except InputError as error:
        raise InputError(f"{DEVICES}={text!r:.64}: {error}") from None


def priority_of(priority: int | None, name: str | None) -> int:
    """The number, else that of Kubernetes' two own classes, else the class's name if it is a number; else 0."""
    if priority is not None:
        return priority
    text = name or ""
    return CLASSES.get(
        text, int(text) if text.removeprefix("-").isdecimal() and len(text) <= 11 and text.isascii() else 0
    )
