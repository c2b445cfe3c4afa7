"""Policy documents for tests."""

from __future__ import annotations

from typing import Any

from neap.common.model.policy import Edition, PolicyDocument, Tier


def an_edition(
    patch: dict[str, Any], scope: str = "cluster", *, at: float = 0.0, version: int = 1, **more: Any
) -> Edition:
    """One edition; `scope` as people write it."""
    tier, _, selector = scope.partition("=")
    return Edition(version=version, at=at, tier=Tier(tier), selector=selector, patch=patch, **more)


def a_policy(name: str, *editions: Edition, room: str = "advisor") -> PolicyDocument:
    """A document; the newest edition first."""
    versions = [edition.version for edition in editions]
    return PolicyDocument(at=0.0, source="test", room=room, name=name, editions=editions, last=max(versions))
