"""Sizes that hold for pods to come: the notes on their owners, as the admission webhook looks them up."""

from __future__ import annotations

from neap.common.kube.objects import Metadata, OwnerReference
from neap.gateway.core.plans.sizes import Note, noted
from neap.gateway.core.pods.owners import Owners


class Notes:
    """By owner, of those that have one: namespace/Kind/name."""

    def __init__(self) -> None:
        self._notes: dict[str, Note] = {}
        self._by_name = Owners()  # knows nobody: a ReplicaSet's Deployment is told by its name

    def __len__(self) -> int:
        return len(self._notes)

    def see(self, kind: str, meta: Metadata) -> None:
        """An owner as the API has it."""
        note = noted(meta)
        if note is None:
            self.forget(kind, meta.key)
        else:
            self._notes[_key(kind, meta.key)] = note

    def forget(self, kind: str, key: str) -> None:
        """The API has it no more."""
        self._notes.pop(_key(kind, key), None)

    def of(self, namespace: str, labels: dict[str, str], owners: tuple[OwnerReference, ...]) -> Note | None:
        """For a pod that is being made."""
        if not self._notes or not owners:
            return None
        owner = self._by_name.of(Metadata(labels=labels, owner_references=owners))
        return self._notes.get(f"{namespace}/{owner}")


def _key(kind: str, key: str) -> str:
    namespace, _, name = key.partition("/")
    return f"{namespace}/{kind}/{name}"
