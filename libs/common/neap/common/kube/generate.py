"""Write what the manifests need and code knows: our kinds' definitions, the gateway's roles, the users of NATS.

python -m neap.common.kube.generate            write the files (below the current directory)
python -m neap.common.kube.generate --check    exit 1 if a file differs from the code
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from neap.common.kube import crd, rbac, users

PLACE: Final = Path("deploy/k8s")
DEFINITIONS: Final = PLACE / "base/crds"


def files() -> Iterator[tuple[Path, str]]:
    """Every generated file, below the root, and its text."""
    yield from crd.files(DEFINITIONS)
    yield PLACE / "base/cluster/gateway-role.yaml", _roles(rbac.GRANTS, rbac.ACCOUNT)
    yield PLACE / "components/taints/role.yaml", _roles(rbac.TAINTS, f"{rbac.ACCOUNT}-taints")
    yield PLACE / "components/plans/role.yaml", _roles(rbac.PLANS, f"{rbac.ACCOUNT}-plans")
    note = crd.NOTE.format(where=f"{users.__name__} and the catalogue")
    yield PLACE / "base/nats/users.conf", note + users.server_users()


def stale(root: Path) -> list[str]:
    """Generated files that differ, are missing, or are no longer generated."""
    made = dict(files())
    wrong = [str(path) for path, text in made.items() if not _holds(root / path, text)]
    there = {path.relative_to(root) for path in (root / DEFINITIONS).glob("*.yaml")}
    return sorted([*wrong, *(str(path) for path in there - set(made))])


def write(root: Path) -> None:
    """Make them so."""
    for name in stale(root):
        (root / name).unlink(missing_ok=True)
    for path, text in files():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        if not _holds(root / path, text):
            (root / path).write_text(text, encoding="utf-8")


def main(argv: Sequence[str]) -> int:
    """See module docstring."""
    parser = argparse.ArgumentParser(description="manifests from the code")
    parser.add_argument("--root", type=Path, default=Path())
    parser.add_argument("--check", action="store_true")
    asked = parser.parse_args(argv)
    if not asked.check:
        write(asked.root)
        return 0
    wrong = stale(asked.root)
    sys.stderr.write("".join(f"{path} differs from the code: make generate\n" for path in wrong))
    return 1 if wrong else 0


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


def _roles(grants: Sequence[rbac.Grant], name: str) -> str:
    return crd.NOTE.format(where=rbac.__name__) + rbac.told(grants, name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
