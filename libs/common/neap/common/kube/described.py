"""What a Struct's source says of its fields: the comment on a field's lines."""

from __future__ import annotations

import ast
import inspect
import tokenize
from functools import lru_cache
from io import StringIO


@lru_cache(maxsize=256)
def described(model: type) -> dict[str, str]:
    """By field name; those of the classes it is made from first."""
    found: dict[str, str] = {}
    for owner in reversed(model.__mro__):
        if vars(owner).get("__annotations__"):
            found |= _comments(inspect.cleandoc("\n" + inspect.getsource(owner)))
    return found


def _comments(source: str) -> dict[str, str]:
    tokens = tokenize.generate_tokens(StringIO(source).readline)
    comments = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
    found: dict[str, str] = {}
    body = ast.parse(source).body[0]
    for node in body.body if isinstance(body, ast.ClassDef) else ():
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
            said = [comments[line] for line in lines if line in comments and not comments[line].startswith("fmt:")]
            if said:
                found[node.target.id] = " ".join(said)
    return found
