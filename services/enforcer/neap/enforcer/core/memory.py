"""Memory limits as the kernel keeps them: whole pages, "max" for none.

    kept = floor(bytes / page) × page       [bytes]

The page size is not ours to know (4, 16 or 64 KiB), so a value agrees if any of them explains what is read.
"""

from __future__ import annotations

from typing import Final

from neap.common.errors import InputError
from neap.common.units import KIB, Bytes
from neap.enforcer.core.knob import LIFTED, whole

PAGES: Final = (4 * KIB, 16 * KIB, 64 * KIB)
UNLIMITED: Final = -1
LARGEST: Final = 1 << 62


def format_limit(limit: Bytes) -> str:
    """Bytes, or "max" for -1.

    Raises:
        InputError: less than the largest page, which would stop the cgroup, or beyond any machine.
    """
    if limit == UNLIMITED:
        return LIFTED
    if not PAGES[-1] <= limit < LARGEST:
        raise InputError(f"{limit} bytes are no memory limit ({PAGES[-1]} and more; -1 lifts it)")
    return str(limit)


def format_protection(amount: Bytes) -> str:
    """Bytes; 0 protects nothing.

    Raises:
        InputError: negative, or beyond any machine.
    """
    if not 0 <= amount < LARGEST:
        raise InputError(f"{amount} bytes are no protection (0 and more)")
    return str(amount)


def format_swap(limit: Bytes) -> str:
    """Bytes, "max" for -1; 0 keeps the cgroup out of swap.

    Raises:
        InputError: below -1, or beyond any machine.
    """
    return LIFTED if limit == UNLIMITED else format_protection(limit)


def parse_limit(text: str) -> Bytes:
    """Bytes, -1 for "max".

    Raises:
        InputError: malformed.
    """
    return UNLIMITED if text.strip() == LIFTED else whole(text)


def agree(wanted: Bytes, read: Bytes) -> bool:
    """Whether `read` is what the kernel keeps of `wanted`; 0 is kept of nothing else, or no small amount would count."""
    return wanted == read or (wanted != UNLIMITED and read > 0 and any(wanted // page * page == read for page in PAGES))
