"""The pods of every owner: who belongs together, whatever the ReplicaSets in between."""

from __future__ import annotations

from sys import intern


class Replicas:
    """By owner: namespace/Kind/name -> uids, in the order they were seen."""

    def __init__(self) -> None:
        self._of: dict[str, dict[str, None]] = {}
        self._owner: dict[str, str] = {}

    def see(self, uid: str, namespace: str, owner: str) -> None:
        """A pod, and who owns it in the end (Deployment/cart); empty: nobody."""
        key = intern(f"{namespace}/{owner}") if owner else ""
        if self._owner.get(uid, "") != key:
            self.forget(uid)
            if key:
                self._owner[uid] = key
                self._of.setdefault(key, {})[uid] = None

    def forget(self, uid: str) -> None:
        """It is gone."""
        key = self._owner.pop(uid, "")
        if key:
            mine = self._of[key]
            del mine[uid]
            if not mine:
                del self._of[key]

    def owner(self, uid: str) -> str:
        """Of a pod; empty if it has none."""
        return self._owner.get(uid, "")

    def of(self, key: str) -> list[str]:
        """Of an owner."""
        return list(self._of.get(key, ()))
