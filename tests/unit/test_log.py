"""Log lines are JSON with the trace they belong to, and plain for people."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest
import structlog

from neap.common.telemetry import log
from neap.common.telemetry.span import SpanContext, current
from tests.conftest import SOON


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def written(out: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_line_carries_event_fields_level_and_time() -> None:
    out = io.StringIO()
    log.configure(stream=out, service="advisor", node="")
    log.get_logger("bus").warning("bus.unreachable", why="nobody there", attempts=3)
    (line,) = written(out)
    assert line.pop("timestamp", "")
    assert line == {
        "event": "bus.unreachable",
        "service": "advisor",
        "part": "bus",
        "why": "nobody there",
        "attempts": 3,
        "level": "warning",
    }


def test_a_line_inside_a_decision_names_its_trace() -> None:
    out = io.StringIO()
    log.configure(stream=out)
    token = current.set(SpanContext("a" * 32, "b" * 16))
    log.get_logger("x").info("x.happened")
    current.reset(token)
    log.get_logger("x").info("x.happened")
    inside, outside = written(out)
    assert (inside["trace_id"], inside["span_id"]) == ("a" * 32, "b" * 16)
    assert "trace_id" not in outside


def test_lines_below_the_level_are_not_written() -> None:
    out = io.StringIO()
    log.configure(stream=out, level="error")
    log.get_logger("x").warning("x.happened")
    assert out.getvalue() == ""


def test_libraries_come_out_the_same_way_with_their_exceptions() -> None:
    out = io.StringIO()
    log.configure(stream=out)
    try:
        int("odd")
    except ValueError:
        logging.getLogger("nats.client").exception("could not %s", "parse")
    logging.getLogger("nats.client").info("chatter")
    (line,) = written(out)
    assert (line["event"], line["part"], line["why"]) == ("library.said", "nats.client", "could not parse")
    assert "ValueError: invalid literal" in str(line["exception"])


def test_layers_below_this_one_name_their_event() -> None:
    out = io.StringIO()
    log.configure(stream=out)
    logging.getLogger("neap.bus").info("bus.poison: neap.v1.x: %s", "not JSON: at byte 1")
    (line,) = written(out)
    assert (line["event"], line["part"], line["why"]) == ("bus.poison", "neap.bus", "neap.v1.x: not JSON: at byte 1")


def test_a_library_that_repeats_itself_is_written_once() -> None:
    out = io.StringIO()
    log.configure(stream=out)
    for _ in range(100):
        logging.getLogger("chatty").warning("refused")
    logging.getLogger("chatty").warning("something else")
    logging.getLogger("other").warning("refused")
    assert [(line["part"], line["why"]) for line in written(out)] == [
        ("chatty", "refused"),
        ("chatty", "something else"),
        ("other", "refused"),
    ]


def test_a_value_json_does_not_know_is_written_as_text() -> None:
    out = io.StringIO()
    log.configure(stream=out)
    log.get_logger("x").info("x.happened", error=ValueError("odd"))
    assert written(out)[0]["error"] == "odd"


def test_people_get_plain_lines() -> None:
    out = io.StringIO()
    log.configure(stream=out, console=True)
    log.get_logger("x").info("x.happened", why="because")
    assert "x.happened" in out.getvalue()
    assert not out.getvalue().startswith("{")


def test_logging_does_not_import_rich_and_leaves_it_importable() -> None:
    code = "import sys, neap.common.telemetry.log; assert 'rich' not in sys.modules; import rich.console"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=SOON)
