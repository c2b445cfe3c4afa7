"""Logs: one JSON line per event on stderr, or plain coloured lines where a person reads along.

    log = get_logger("bus")
    log.warning("bus.unreachable", why="...", url=url)

The event is a constant of dotted words, everything else is a field; a sentence for people is the field `why`.
`trace_id` and `span_id` are added where a decision is being carried out, so that a collector can join logs and
traces. There is no network here: whatever runs the process picks the lines up. What third-party libraries log
comes out the same way, from level warning on.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any, Final, TextIO

import msgspec

from neap.common.telemetry.span import current
from neap.common.units import Seconds

if TYPE_CHECKING:
    import structlog
else:  # structlog imports rich for tracebacks nobody here sees: 5 MiB and 150 ms in every process
    _rich = sys.modules.get("rich")
    sys.modules["rich"] = None
    try:
        import structlog
    finally:
        sys.modules.pop("rich")
        if _rich is not None:
            sys.modules["rich"] = _rich

Fields = MutableMapping[str, Any]
OURS: Final = "neap"  # standard loggers below it belong to layers under this one; they say "event.word: sentence"
QUIET: Final[Seconds] = 10.0  # the same line of the same library is written once in this time
LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def get_logger(name: str) -> Any:
    """The logger of one part; usable before `configure`, whose choices it follows at the first line."""
    return structlog.get_logger(part=name)


def configure(*, level: str = "info", stream: TextIO | None = None, console: bool | None = None, **fixed: str) -> None:
    """Once per process. `fixed` fields stand on every line; `console` defaults to whether `stream` is a terminal."""
    out = sys.stderr if stream is None else stream
    plain = out.isatty() if console is None else console

    def add_fixed(_logger: Any, _method: str, line: Fields) -> Fields:
        return {**{name: value for name, value in fixed.items() if value}, **line}

    ending: list[Any] = (
        [structlog.dev.ConsoleRenderer(colors=out.isatty())]
        if plain
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_json)]
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            add_fixed,
            _add_trace,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *ending,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=max(LEVELS[level], logging.WARNING), handlers=[_Forward()], force=True)
    logging.getLogger(OURS).setLevel(LEVELS[level])


def _add_trace(_logger: Any, _method: str, line: Fields) -> Fields:
    context = current.get()
    if context is not None:
        line["trace_id"], line["span_id"] = context.trace, context.span
    return line


def _json(line: Fields, **_: Any) -> str:
    """Event first: that is what a person looks for."""
    return msgspec.json.encode({"event": line.pop("event", ""), **line}, enc_hook=str).decode()


class _Forward(logging.Handler):
    """What libraries log, and our layers below this one, as our lines; not the same line again and again."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, tuple[str, float]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        event, why = "library.said", record.getMessage()
        before, at = self._last.get(record.name, ("", 0.0))
        if why == before and record.created - at < QUIET:
            return
        self._last[record.name] = (why, record.created)
        if record.name.startswith(f"{OURS}.") and ": " in why:
            event, why = why.split(": ", 1)
        exception = {"exc_info": record.exc_info} if record.exc_info else {}
        get_logger(record.name).log(record.levelno, event, why=why, **exception)
