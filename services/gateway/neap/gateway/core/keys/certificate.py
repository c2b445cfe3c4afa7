"""X.509 certificates with Ed25519 keys, as bytes: an authority of our own, and what it vouches for.

Just enough of DER for two shapes, so that a cluster needs nothing else to get its first certificates:

    authority   CA, may sign certificates
    leaf        for the DNS names in it, as server and as client

Pure: keys, serial number and time are given. Where there is cert-manager, it does this better.
Source: RFC 5280 (certificates), RFC 8410 (Ed25519 in them), X.690 (DER).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from neap.common.errors import InputError
from neap.common.units import MINUTE, Seconds

Sign = Callable[[bytes], bytes]
SEQUENCE, SET, INTEGER, BITS, OCTETS, OID, TEXT, TIME, FLAG = 0x30, 0x31, 0x02, 0x03, 0x04, 0x06, 0x0C, 0x18, 0x01
CONTEXT: Final = 0xA0
ED25519: Final = "1.3.101.112"
COMMON_NAME: Final = "2.5.4.3"
BASIC, USAGE, EXTENDED = "2.5.29.19", "2.5.29.15", "2.5.29.37"
NAMES, SUBJECT_KEY, AUTHORITY_KEY = "2.5.29.17", "2.5.29.14", "2.5.29.35"
SERVER, CLIENT = "1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"
SIGNS_CERTIFICATES, SIGNS = b"\x02\x04", b"\x07\x80"  # unused bits, then keyCertSign and digitalSignature
EARLIER: Final[Seconds] = 5 * MINUTE  # clocks differ


@dataclass(frozen=True)
class Party:
    """Who is named, and the public half of its key."""

    name: str
    public: bytes


def certificate(
    subject: Party, issuer: Party, sign: Sign, *, serial: int, at: Seconds, lasts: Seconds, names: Sequence[str] = ()
) -> bytes:
    """DER of a certificate; with `names` a leaf, without an authority. `sign` is the issuer's.

    Raises:
        InputError: a name is no DNS name.
    """
    algorithm = _der(SEQUENCE, _oid(ED25519))
    to_sign = _der(
        SEQUENCE,
        _der(CONTEXT, _integer(2)),  # version 3
        _integer(serial),
        algorithm,
        _named(issuer.name),
        _der(SEQUENCE, _time(at - EARLIER), _time(at + lasts)),
        _named(subject.name),
        _der(SEQUENCE, algorithm, _bits(subject.public)),
        _der(CONTEXT + 3, _der(SEQUENCE, *_extensions(subject, issuer, names))),
    )
    return _der(SEQUENCE, to_sign, algorithm, _bits(sign(to_sign)))


def private_key(seed: bytes) -> bytes:
    """DER of an Ed25519 private key (PKCS #8)."""
    return _der(SEQUENCE, _integer(0), _der(SEQUENCE, _oid(ED25519)), _der(OCTETS, _der(OCTETS, seed)))


def pem(label: str, der: bytes) -> str:
    """As files have it."""
    text = base64.b64encode(der).decode()
    lines = (text[start : start + 64] for start in range(0, len(text), 64))
    return "\n".join((f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""))


def _extensions(subject: Party, issuer: Party, names: Sequence[str]) -> tuple[bytes, ...]:
    known = (
        _extension(SUBJECT_KEY, _der(OCTETS, _fingerprint(subject))),
        _extension(AUTHORITY_KEY, _der(SEQUENCE, _der(0x80, _fingerprint(issuer)))),
    )
    if not names:
        is_authority = _der(SEQUENCE, _der(FLAG, b"\xff"))
        return (
            _extension(BASIC, is_authority, critical=True),
            _extension(USAGE, _der(BITS, SIGNS_CERTIFICATES), critical=True),
            *known,
        )
    return (
        _extension(BASIC, _der(SEQUENCE), critical=True),
        _extension(USAGE, _der(BITS, SIGNS), critical=True),
        _extension(EXTENDED, _der(SEQUENCE, _oid(SERVER), _oid(CLIENT))),
        _extension(NAMES, _der(SEQUENCE, *(_der(0x82, _dns(name)) for name in names))),
        *known,
    )


def _dns(name: str) -> bytes:
    if not name.isascii() or not name or len(name) > 253 or any(char.isspace() for char in name):
        raise InputError(f"no DNS name: {name!r:.80}")
    return name.encode()


def _extension(oid: str, value: bytes, *, critical: bool = False) -> bytes:
    flag = _der(FLAG, b"\xff") if critical else b""
    return _der(SEQUENCE, _oid(oid), flag, _der(OCTETS, value))


def _fingerprint(party: Party) -> bytes:
    return hashlib.sha256(party.public).digest()[:20]


def _named(name: str) -> bytes:
    return _der(SEQUENCE, _der(SET, _der(SEQUENCE, _oid(COMMON_NAME), _der(TEXT, name.encode()))))


def _time(at: Seconds) -> bytes:
    return _der(TIME, datetime.fromtimestamp(int(at), UTC).strftime("%Y%m%d%H%M%SZ").encode())


def _bits(content: bytes) -> bytes:
    return _der(BITS, b"\x00" + content)


def _integer(value: int) -> bytes:
    return _der(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _oid(text: str) -> bytes:
    first, second, *rest = (int(part) for part in text.split("."))
    found = bytearray([40 * first + second])
    for number in rest:
        groups = [number & 0x7F]
        while number := number >> 7:
            groups.append(0x80 | number & 0x7F)
        found += bytes(reversed(groups))
    return _der(OID, bytes(found))


def _der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(size)]) + size + content
