"""What is left of a resource, as one printed sum:  left = capacity − Σ claim × ratio,  at least 0  [cores, or bytes]."""

from __future__ import annotations

from collections.abc import Iterable

from neap.advisor.core.policy import Claim, HeadroomView, Offer
from neap.common.model.resource import RECLAIMED_MEMORY
from neap.common.units import GIB


def left_over(view: HeadroomView, claims: Iterable[Claim]) -> Offer:
    """The offer and its sum. Laws: 0 ≤ offer ≤ capacity; non-increasing in every claim; the printed sum adds up."""
    claims = tuple(claims)
    left = view.capacity - sum(claim.total for claim in claims)
    terms = "".join(f" − {_term(claim, view.kind)}" for claim in claims if claim.amount > 0)
    total = f"{written(left, view.kind)} = {written(view.capacity, view.kind)} capacity{terms}"
    return Offer(max(left, 0.0), total if left >= 0 else f"{written(0.0, view.kind)}, because {total}")


def _term(claim: Claim, kind: str) -> str:
    ratio = f" x {claim.ratio:.2f}" if claim.ratio != 1 else ""
    return f"{written(claim.amount, kind)} {claim.name}{ratio}"


def written(amount: float, kind: str) -> str:
    """Cores, or GiB of a kind that is counted in bytes."""
    return f"{amount / GIB:.1f}Gi" if kind == RECLAIMED_MEMORY else f"{amount:.1f}"
