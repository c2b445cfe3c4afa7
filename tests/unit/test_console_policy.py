"""What people write as policy, and what they are told when it cannot be meant."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import yaml

from neap.common.errors import InputError
from neap.common.model.policy import PolicyDocument, Tier
from neap.console.core.policies import a_pause, changed, edition_of, listed, reached, read_drafts
from tests.unit.policy_world import a_policy, an_edition

NOW = 1_794_000_000.0
WRITTEN = """
name: night
room: advisor
tier: pool=batch
patch: {grow_step: 0.2, tune.provision_canonical.margin: 0.5}
canary: 10%
schedule: "22:00-06:00 fri,sat +02:00"
begins: 2027-11-11T00:00:00Z
expires: 500d2h
reason: lend more while the shops are shut
"""


def test_a_document_as_it_is_written_in_the_manual_is_understood() -> None:
    [draft] = read_drafts(yaml.safe_load_all(WRITTEN), "night.yaml")
    edition = edition_of(draft, author="ann", at=NOW)
    assert (edition.tier, edition.selector, edition.canary) == (Tier.POOL, "batch", 0.1)
    assert (edition.begins, edition.expires) == (1_825_891_200.0, NOW + 500 * 86400 + 7200)
    assert str(edition.schedule) == "22:00-06:00 fri,sat +02:00"
    assert edition.patch == {"grow_step": 0.2, "tune.provision_canonical.margin": 0.5}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tier": "rack=r1"}, "Invalid enum value 'rack'"),
        ({"canary": "many"}, "canary 'many'"),
        ({"canary": "200%"}, "<= 1.0"),
        ({"canary": "nan"}, "$.canary"),
        ({"schedule": "22-6"}, "not a window of the day: '22-6'"),
        ({"schedule": "22:00-22:00"}, "has no length"),
        ({"schedule": " "}, "not a window"),
        ({"schedule": "22:00-06:00 someday"}, "someday"),
        ({"expires": "2001-01-01T00:00:00Z"}, "that is past"),
        ({"expires": "soon"}, "expires 'soon' (write 30m, 3d, or"),
        ({"begins": "3x"}, "begins '3x'"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_document_and_field(changes: dict[str, Any], says: str) -> None:
    [draft] = read_drafts([yaml.safe_load(WRITTEN) | changes], "night.yaml")
    with pytest.raises(InputError) as told:
        edition_of(draft, author="", at=NOW)
    assert str(told.value).startswith("policy night: ")
    assert says in str(told.value)


@pytest.mark.parametrize(
    ("documents", "says"),
    [
        ([{"name": "a"}], r"f.yaml, document 1: Object missing required field `room`"),
        ([{"name": "a", "room": "b"}, {"name": "a", "room": "b", "patches": {}}], "document 2: .*`patches`"),
        ([3], "document 1"),
        ([None], "no document in it"),
    ],
)
def test_a_file_that_is_no_policy_is_refused_by_place(documents: list[Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_drafts(documents, "f.yaml")


def test_a_difference_names_what_changes_and_where() -> None:
    old = an_edition({"ttl": 20}, canary=0.5, expires=NOW)
    new = an_edition({"ttl": 30, "idle": False}, "pool=batch")
    assert changed(old, new) == [
        "  canary: 50.0% → -",
        "  expires: 2026-11-06T21:20:00Z → -",
        "  for: cluster → pool=batch",
        "  patch idle: - → false",
        "  patch ttl: 20 → 30",
    ]
    before = {f"n{number}": {"ttl": 20} for number in range(8)}
    after = before | {f"n{number}": {"ttl": 30} for number in range(2, 8)}
    assert reached(before, after) == ["  ttl: 20 → 30 on 6 of 8: n2, n3, n4, n5, n6 ..."]
    assert reached(before, before) == ["  nothing changes now on any of 8 nodes"]


def test_the_list_says_what_each_document_does_now() -> None:
    documents = [
        a_policy("over", an_edition({"ttl": 20}, expires=NOW - 1)),
        a_policy("soon", an_edition({"ttl": 20}, begins=NOW + 90, canary=0.1)),
        a_policy("this", an_edition({"ttl": 20}, "node=n1", expires=NOW + 60, reason="why not", author="ann")),
    ]
    over, soon, this = listed(documents, NOW).splitlines()[1:]
    assert "advisor/over" in over
    assert "expired" in over
    assert "10%" in soon
    assert "in 1m30s" in soon
    assert "for 1m" in this
    assert "why not (ann)" in this


@pytest.mark.parametrize(
    ("tier", "name"),
    [
        ("cluster", "pause-evictions"),
        ("node=n1", "pause-evictions-node-n1"),
        ("node=ip-10-0-123-45.ap-southeast-1.compute.internal", "pause-evictions-29d73812ace2bae5"),
        ("pool=Batch_A", "pause-evictions-fd70e2f1f9312565"),
    ],
)
def test_whatever_kubernetes_allows_as_a_name_can_be_paused(tier: str, name: str) -> None:
    until = NOW + 1800.1234567
    edition = edition_of(a_pause(tier, until, "INC-1"), author="ann", at=NOW)
    document = PolicyDocument(at=NOW, source="console", room="evictor", name=name, editions=(edition,))
    assert a_pause(tier, until, "INC-1").name == name
    assert msgspec.json.decode(msgspec.json.encode(document), type=PolicyDocument) == document
    assert edition.expires == edition.patch["pause_until"], "a wider pause goes on without a gap"
    assert abs(edition.patch["pause_until"] - until) < 1e-5


def test_times_beyond_the_calendar_are_told_and_do_not_end_in_a_traceback() -> None:
    [draft] = read_drafts([yaml.safe_load(WRITTEN) | {"expires": "99999999d"}], "night.yaml")
    (line,) = (line for line in changed(None, edition_of(draft, author="", at=0.0)) if "expires" in line)
    assert line == "  expires: - → 8639999913600 s since 1970"
    with pytest.raises(InputError, match="beyond the calendar"):
        a_pause("cluster", 1e30, "for ever")
