"""What people write as policy, and what they are told of it: drafts in, editions out; differences, origins, lists.

    name: night                     # of the document
    room: advisor
    tier: pool=batch                # cluster (if not given), pool=LABEL, node=NAME, service=NAMESPACE/OWNER
    patch: {grow_step: 0.2, tune.provision_canonical.margin: 0.5}
    canary: 10%                     # of the nodes; or 0.1
    schedule: "22:00-06:00 fri,sat +02:00"
    begins: 2026-11-11T00:00:00Z    # or 2h, from now
    expires: 3d2h                   # the same
    reason: lend more while the shops are shut

Times without a zone are UTC; what lasts is counted from now, by the cluster's clock.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec

from neap.common.errors import InputError
from neap.common.model.policy import NAME, Edition, Effective, PolicyDocument, Provenance, Tier
from neap.common.model.window import parse_window
from neap.common.units import DAY, Seconds, format_duration, parse_duration

DEFAULT: Final = "default"
EVICTOR: Final = "evictor"
PAUSE: Final = "pause-evictions"  # how the names of pauses begin
SHOWN: Final = 5  # nodes named in one line
_DAYS: Final = re.compile(r"(\d+)d(.*)")


class Draft(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One document as it is written; see module docstring."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    room: str
    tier: str = str(Tier.CLUSTER)
    patch: dict[str, Any] = {}
    canary: str | float = 1.0
    schedule: str = ""
    begins: Any = ""
    expires: Any = ""
    reason: str = ""


def a_pause(tier: str, until: Seconds, reason: str) -> Draft:
    """Nobody is evicted there until then. It has a name of its own for every tier and selector, however they are written.

    Raises:
        InputError: a time that no calendar has.
    """
    name = "-".join([PAUSE, *(part for part in tier.partition("=")[::2] if part and part != Tier.CLUSTER)])
    if not re.fullmatch(NAME, name):  # such as a node with a long name, or a pool called Batch_A
        name = f"{PAUSE}-{hashlib.sha256(tier.encode()).hexdigest()[:16]}"
    try:
        expires = datetime.fromtimestamp(until, UTC)
    except (ValueError, OverflowError):
        raise InputError("--for: beyond the calendar") from None
    patch = {"pause_until": expires.timestamp(), "pause_reason": reason}  # ends as the document does, at once
    return Draft(name=name, room=EVICTOR, tier=tier, patch=patch, expires=expires, reason=reason)


def read_drafts(documents: Iterable[Any], where: str) -> list[Draft]:
    """The drafts of a file.

    Raises:
        InputError: names file, document and what is wrong.
    """
    drafts = []
    for number, document in enumerate((each for each in documents if each is not None), start=1):
        try:
            drafts.append(msgspec.convert(document, Draft))
        except msgspec.ValidationError as error:
            raise InputError(f"{where}, document {number}: {error}") from None
    if not drafts:
        raise InputError(f"{where}: no document in it")
    return drafts


def edition_of(draft: Draft, *, author: str, at: Seconds) -> Edition:
    """What a draft means now.

    Raises:
        InputError: names document, field and what is wrong.
    """
    try:
        tier, _, selector = draft.tier.partition("=")
        edition = {
            "version": 1,
            "at": at,
            "author": author,
            "reason": draft.reason,
            "tier": tier,
            "selector": selector,
            "patch": draft.patch,
            "canary": _share(draft.canary),
            "begins": _moment("begins", draft.begins, at) or 0.0,
            "expires": _future(_moment("expires", draft.expires, at), at),
            "schedule": msgspec.to_builtins(parse_window(draft.schedule)) if draft.schedule else None,
        }
        return msgspec.convert(edition, Edition)
    except (InputError, msgspec.ValidationError) as error:
        raise InputError(f"policy {draft.name}: {error}") from None


def _future(moment: Seconds | None, at: Seconds) -> Seconds | None:
    if moment is not None and moment <= at:
        raise InputError(f"expires {_when(moment)}, that is past")
    return moment


def _share(written: str | float) -> float:
    if not isinstance(written, str):
        return written
    try:
        return float(written.strip().removesuffix("%")) / (100 if "%" in written else 1)
    except ValueError:
        raise InputError(f"canary {written!r} (write 10% or 0.1)") from None


def _moment(what: str, written: Any, at: Seconds) -> Seconds | None:
    if not written:
        return None
    if isinstance(written, datetime):
        return (written if written.tzinfo else written.replace(tzinfo=UTC)).timestamp()
    written = str(written)
    try:
        return _moment(what, datetime.fromisoformat(written), at)
    except ValueError:
        pass
    try:
        days = _DAYS.fullmatch(written.strip())
        if days:
            return at + int(days[1]) * DAY + (parse_duration(days[2]) if days[2] else 0.0)
        return at + parse_duration(written)
    except InputError:
        raise InputError(f"{what} {written!r} (write 30m, 3d, or 2026-11-11T00:00:00Z)") from None


def changed(old: Edition | None, new: Edition | None) -> list[str]:
    """One line for each difference between two editions of a document."""
    lines = []
    mine, theirs = _told(old), _told(new)
    for key in sorted(mine.keys() | theirs.keys()):
        before, after = mine.get(key), theirs.get(key)
        if before != after:
            lines.append(f"  {key}: {'-' if before is None else before} → {'-' if after is None else after}")
    return lines


def _told(edition: Edition | None) -> dict[str, str]:
    if edition is None:
        return {}
    told = {f"patch {key}": _text(value) for key, value in edition.patch.items()}
    told |= {"for": edition.scope, "reason": edition.reason, "schedule": str(edition.schedule or "")}
    told |= {"canary": "" if edition.canary >= 1 else f"{edition.canary:.1%}"}
    told |= {"begins": _when(edition.begins), "expires": _when(edition.expires)}
    return {key: text for key, text in told.items() if text}


def reached(before: Mapping[str, Mapping[str, Any]], after: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What would really change, and where. Both: settings by key, by node (or by service and node)."""
    moves: dict[tuple[str, str, str], list[str]] = {}
    for place in after:
        mine, theirs = before[place], after[place]
        for key in sorted(mine.keys() | theirs.keys()):
            if (old := mine.get(key)) != (new := theirs.get(key)):
                moves.setdefault((key, _text(old), _text(new)), []).append(place)
    lines = []
    for (key, old, new), places in sorted(moves.items()):
        some = ", ".join(places[:SHOWN]) + (" ..." if len(places) > SHOWN else "")
        lines.append(f"  {key}: {old} → {new} on {len(places)} of {len(after)}: {some}")
    return lines or [f"  nothing changes now on any of {len(after)} nodes"]


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One setting in force: its value, who won and whom that beat."""

    key: str
    value: Any
    default: Any
    provenance: Provenance | None = None


def explained(lines: Sequence[Line], effective: Mapping[str, Effective]) -> str:
    """Every setting with its origin, then the documents that have no effect here, and why."""
    told = [f"{line.key} = {_text(line.value)}   [{_origin(line)}]" for line in lines]
    for room, found in effective.items():
        for absent in found.absent:
            name = f"{room}/{absent.document} v{absent.version} ({absent.scope})"
            told.append(f"no effect: {name}: {absent.why}: {absent.says}")
    return "\n".join(told)


def _origin(line: Line) -> str:
    if line.provenance is None:
        return DEFAULT
    won = line.provenance.won
    reason = f" {won.reason!r}" if won.reason else ""
    beat = [f"{claim.scope}: {claim.document} v{claim.version} {_text(claim.value)}" for claim in line.provenance.beat]
    beat.append(f"{DEFAULT} {_text(line.default)}")
    return f"{won.scope}: {won.document} v{won.version}{reason}; beat {', '.join(beat)}"


def listed(documents: Sequence[PolicyDocument], at: Seconds) -> str:
    """The documents, one line each."""
    if not documents:
        return "no policy: every room has its own settings"
    rows = [("DOCUMENT", "V", "FOR", "CANARY", "NOW", "SETS", "REASON")]
    for document in documents:
        now = document.now
        sets = ", ".join(f"{key}={_text(value)}" for key, value in sorted(now.patch.items()))
        canary = f"{now.canary:.0%}" if now.canary < 1 else "all"
        name, reason = f"{document.room}/{document.name}", f"{now.reason} ({now.author or 'unknown'})"
        rows.append((name, str(now.version), now.scope, canary, _state(now, at), sets, reason))
    widths = [max(len(row[place]) for row in rows) for place in range(5)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[5], f"  {row[6]}"])
        for row in rows
    )


def _state(edition: Edition, at: Seconds) -> str:
    if at < edition.begins:
        return f"in {format_duration(edition.begins - at)}"
    if edition.expires is not None and at >= edition.expires:
        return "expired"
    if edition.schedule is not None and not edition.schedule.holds(at):
        return f"waits for {edition.schedule}"
    return "in force" if edition.expires is None else f"for {format_duration(edition.expires - at)}"


def _when(at: Seconds | None) -> str:
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if at else ""
    except (ValueError, OverflowError):  # beyond the calendar
        return f"{at:.0f} s since 1970"


def _text(value: Any) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
