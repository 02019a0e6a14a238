"""The rotation of an environment's authority. For the controller only.

Three steps: [old] → [old, new] → [new, old] → [new]. At each of them every host trusts whoever may have signed for the
others, provided that all hosts and releases have come through the step before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from cryptography import x509

from .authorities import UNREADABLE, Authority

# How many authorities there are while one takes the place of another.
DURING = 2


class Step(StrEnum):
    """What is to be done next. AGAIN: what was begun has not reached all hosts and releases."""

    TRUST = "trust"
    SIGN = "sign"
    END = "end"
    AGAIN = "again"


def mark(entries: Sequence[Mapping[str, Any]]) -> str:
    """What stands for a list of authorities in a record; it tells nothing of their keys."""
    return hashlib.sha256("".join(Authority.of(entry).pem for entry in entries).encode()).hexdigest()


def next_step(entries: Sequence[Mapping[str, Any]], reached: str) -> Step:
    """The step that follows.

    reached: the mark of the list that all hosts and releases were last seen to have.
    Raises ValueError where the list is no state of a rotation.
    """
    if not 1 <= len(entries) <= DURING:
        raise ValueError(f"has {len(entries)} authorities, and a rotation is a matter of one or two")
    if len(entries) == 1:
        # Whatever is still on its way, all trust this one and have its signature.
        return Step.TRUST
    if mark(entries) != reached:
        return Step.AGAIN
    begins = [Authority.of(entry).certificate.not_valid_before_utc for entry in entries]
    if begins[0] == begins[1]:
        raise ValueError("has two authorities of the same time: which of them is the new one cannot be told")
    return Step.SIGN if begins[0] < begins[1] else Step.END


def after(
    entries: Sequence[Mapping[str, Any]], step: Step, new: Mapping[str, Any] | None = None
) -> list[Mapping[str, Any]]:
    """The list after a step. `new` is the authority that TRUST adds."""
    if step is Step.TRUST and new is not None:
        return [*entries, new]
    if step is Step.SIGN:
        return [*reversed(entries)]
    return [*entries[:1]] if step is Step.END else [*entries]


def skipped(found: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> str:
    """Why a list would cut a host off from others that have not come as far; empty when it would not.

    found: the host's certificate as `flotilla_certificates` read it.
    """
    if not found.get("certificate") or not found.get("authorities"):
        return ""
    trusted = [Authority.of(entry) for entry in entries]
    if trusted[0].pem not in str(found["authorities"]):
        return "it does not trust yet who is to sign from now on, nor may others"
    try:
        certificate = x509.load_pem_x509_certificate(str(found["certificate"]).encode())
    except UNREADABLE:
        return ""
    trusted_still = any(one.signed(certificate) for one in trusted)
    return "" if trusted_still else "who signed its certificate would be trusted no more"
