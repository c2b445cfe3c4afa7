"""Devices from an NCCL topology file, for machines whose vendor ships one instead of a truthful bus tree.

    system > cpu (numaid, affinity) > pci (busid, class, vendor, device) > pci ... | gpu | nic > net (name, guid)

A pci element with pci elements in it is one switch. Device.path is written as for sysfs, where a switch is two ports:

    "numa0"                the cpu element: NCCL knows no host bridges, so all of one NUMA node hang below one
    "0000:18:00.0"         the switch, by the address of its upper port
    "0000:18:00.0#3"       its lower port to its fourth element; NCCL leaves lower ports out, so the name is ours

A nic outside of any pci element has no address; the name of its net stands for it. A net with a guid is RDMA.

A gpu element names its NVLinks: nvlink (target, count, tclass). Those to another GPU are links of the pair; those to
NVSwitches reach every other GPU that has some, so a pair has as many as the one with fewer. sysfs tells no NVLinks.

Source: NCCL, src/graph/topo.h and xml.cc (the format); NCCL_TOPO_FILE and NCCL_TOPO_DUMP_FILE in its documentation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Final
from xml.etree import ElementTree as ET

import msgspec

from neap.common.cpuset import format_cpuset
from neap.common.errors import InputError
from neap.common.model.topology import Card, Device, Link, ZoneKind
from neap.reporter.core.topology.devices import LARGEST, LONGEST_NAME, NAMES
from neap.reporter.core.topology.text import ADDRESS, cpu_mask, hexadecimal, integer

LONGEST: Final = 1 << 22  # characters; the largest known file has 50,000
DEEPEST: Final = 16  # switches in a row
NVSWITCH: Final = "0680"  # class of a bridge, as the target of an nvlink
MOST_LANES: Final = 64  # of one GPU to one target; the largest known GPU has 18
CLASSES: Final = (
    ("0207", ZoneKind.RDMA),
    ("02", ZoneKind.NIC),
    ("03", ZoneKind.GPU),
    ("12", ZoneKind.GPU),
    ("0108", ZoneKind.STORAGE),
)


def corrected(
    devices: Iterable[Device], cards: Iterable[Card], text: str | None, file: str, warnings: list[str]
) -> tuple[tuple[Device, ...], tuple[Card, ...]]:
    """Devices and cards where the vendor's file says they are; the file's own where the bus shows none.

    A file that is missing or broken changes nothing and is named in the warnings.
    """
    known, known_cards = tuple(devices), tuple(cards)
    if text is None:
        warnings.append(f"{file}: cannot be read; devices are where the bus says")
        return known, known_cards
    try:
        told = {device.address: device for device in read_nccl(text)}
    except InputError as error:
        warnings.append(f"{file}: {error}; devices are where the bus says")
        return known, known_cards
    found = {device.address: device for device in known}
    only_told = [address for address in told if address not in found]
    if only_told and found:
        warnings.append(f"{file}: {len(only_told)} of its devices are not on the bus, such as {only_told[0]}")
    here = {
        address: msgspec.structs.replace(
            device, path=told[address].path, numa=told[address].numa, cpus=told[address].cpus
        )
        if address in told
        else device
        for address, device in found.items()
    } | ({} if found else told)
    moved = tuple(
        msgspec.structs.replace(card, numa=told[card.pci].numa) if card.pci in told else card for card in known_cards
    )
    return tuple(here[address] for address in sorted(here)), moved


def read_nccl(text: str) -> tuple[Device, ...]:
    """The devices of the file, by address.

    Raises:
        InputError: no such file, larger than one can be, or an element in it makes no sense; the text names it.
    """
    system = _system(text)
    found: dict[str, Device] = {}
    for cpu in system.iterfind("cpu"):
        for device in _of_cpu(cpu):
            if device.address in found:
                raise InputError(f"NCCL topology: {device.address} is there twice")
            found[device.address] = device
            if len(found) > LARGEST:
                raise InputError(f"NCCL topology: more than {LARGEST} devices")
    return tuple(found[address] for address in sorted(found))


def nvlinks(text: str | None, file: str, warnings: list[str]) -> tuple[Link, ...] | None:
    """The NVLinks of the file, by addresses; None if no gpu element says, or the file is missing or broken."""
    try:
        return None if text is None else read_nvlinks(text)
    except InputError as error:
        if not any(str(error) in warning for warning in warnings):  # `corrected` names most
            warnings.append(f"{file}: {error}; NVLinks are unknown")
        return None


def read_nvlinks(text: str) -> tuple[Link, ...] | None:
    """See `nvlinks`.

    Raises:
        InputError: as `read_nccl`, or a number of links that cannot be.
    """
    direct, switched = dict[tuple[str, str], int](), dict[str, int]()
    gpus = {pci.get("busid", "").lower(): gpu for pci in _system(text).iter("pci") for gpu in pci.findall("gpu")}
    for address, gpu in sorted(gpus.items()):
        for nvlink in gpu.findall("nvlink"):
            count, target = integer(nvlink.get("count")), nvlink.get("target", "").lower()
            if count is None or not 1 <= count <= MOST_LANES:
                raise InputError(f"NCCL topology: {nvlink.get('count', '')[:64]!r} NVLinks of {address} cannot be")
            if hexadecimal(nvlink.get("tclass"), 6).startswith(NVSWITCH):
                switched[address] = switched.get(address, 0) + count
            elif target in gpus and target != address:
                direct[address, target] = direct.get((address, target), 0) + count
    pairs = {
        (a, b): max(direct.get((a, b), 0), direct.get((b, a), 0)) + min(switched.get(a, 0), switched.get(b, 0))
        for a, b in combinations(sorted(gpus), 2)
    }
    return tuple(Link(a=a, b=b, lanes=lanes) for (a, b), lanes in pairs.items() if lanes) if gpus else None


def _system(text: str) -> ET.Element:
    if len(text) > LONGEST:
        raise InputError(f"NCCL topology: {len(text)} characters, more than {LONGEST}")
    if "<!" in text.replace("<!--", ""):
        raise InputError("NCCL topology: declarations and entities are not read")
    try:
        system = ET.fromstring(text)  # noqa: S314 (bounded, and without declarations nothing expands)
    except (ET.ParseError, ValueError) as error:
        raise InputError(f"NCCL topology: no XML: {error}") from None
    if system.tag != "system":
        raise InputError(f"NCCL topology: the outermost element is {system.tag[:64]!r}, not 'system'")
    return system


@dataclass(frozen=True)
class _Place:
    """What all devices inside an element have in common."""

    numa: int
    cpus: str
    path: tuple[str, ...]

    def device(self, kind: ZoneKind, pci: ET.Element, address: str, names: list[str]) -> Device:
        """A device here."""
        return Device(
            kind=kind,
            address=address,
            names=tuple(names[:NAMES]),
            vendor=hexadecimal(pci.get("vendor"), 4),
            model=hexadecimal(pci.get("device"), 4),
            numa=self.numa,
            cpus=self.cpus,
            path=self.path,
        )


def _of_cpu(cpu: ET.Element) -> Iterator[Device]:
    numa, affinity = integer(cpu.get("numaid")), cpu.get("affinity", "")
    if numa is None or numa < -1:
        raise InputError(f"NCCL topology: numaid {cpu.get('numaid', '')[:64]!r} of a cpu is no NUMA node")
    cpus = cpu_mask(affinity)
    if cpus is None and affinity:
        raise InputError(f"NCCL topology: affinity {affinity[:64]!r} of cpu {numa} is no CPU mask")
    here = _Place(numa, format_cpuset(cpus or ()), (f"numa{numa}",))
    yield from _nets(cpu, here)
    for pci in cpu.iterfind("pci"):
        yield from _of_pci(pci, here)


def _nets(element: ET.Element, here: _Place) -> Iterator[Device]:
    """Nics without an address of their own."""
    for net in element.iterfind("nic/net"):
        name = net.get("name", "")[:LONGEST_NAME]
        if not name:
            raise InputError("NCCL topology: a net has neither a name nor a bus address")
        yield here.device(_kind_of([net]), net, name, [name])


def _of_pci(pci: ET.Element, here: _Place) -> Iterator[Device]:
    address = pci.get("busid", "").lower()
    if not ADDRESS.fullmatch(address):
        raise InputError(f"NCCL topology: busid {pci.get('busid', '')[:64]!r} of a pci is no bus address")
    inner = pci.findall("pci")
    if inner:
        if len(here.path) > 2 * DEEPEST:
            raise InputError(f"NCCL topology: more than {DEEPEST} switches in a row at {address}")
        yield from _nets(pci, replace(here, path=(*here.path, address)))
        for position, element in enumerate(inner):
            yield from _of_pci(element, replace(here, path=(*here.path, address, f"{address}#{position}")))
        return
    nets = pci.findall("nic/net")
    pci_class = hexadecimal(pci.get("class"), 6)
    kind = next((kind for start, kind in CLASSES if pci_class.startswith(start)), None)
    if pci.find("gpu") is not None:
        kind = ZoneKind.GPU
    elif nets and kind is not ZoneKind.RDMA:
        kind = _kind_of(nets)
    if kind is not None:
        yield here.device(kind, pci, address, [net.get("name", "")[:LONGEST_NAME] for net in nets])


def _kind_of(nets: list[ET.Element]) -> ZoneKind:
    guids = [hexadecimal(net.get("guid"), 16) for net in nets]
    return ZoneKind.RDMA if any(guid.strip("0") for guid in guids) else ZoneKind.NIC
