"""How long the certificates of an environment last, for people. Pure functions, for the controller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def lasting(
    seen: Mapping[str, Sequence[Mapping[str, Any]]],
    silent: Mapping[str, str],
    authority_days: int | None,
    wanted_days: int,
    inventory: str = "",
) -> dict[str, list[str]]:
    """`lines` to be shown and `problems`.

    seen: host → its certificates as `name`, `not_after`, `days_left` (None where there is none) and `due` (reasons).
    silent: host → why it could not say.  authority_days: left of the one that signs.
    wanted_days: as many as the authority should have, so that it can sign still when certificates are renewed next.
    """
    lines, problems = [], []
    fix = f"Next: ansible-playbook playbooks/provision.yml{inventory}"
    for host, certificates in seen.items():
        for one in certificates:
            left = "none" if one["days_left"] is None else f"{one['days_left']} days, to {one['not_after'][:10]}"
            lines.append(f"  {host}  {one['name']}  {left}")
            problems += [f"{host}: the certificate `{one['name']}`: {reason}. {fix}" for reason in one["due"]]
    problems += [f"{host}: its certificates cannot be read: {why}" for host, why in silent.items()]
    if authority_days is not None and lines:
        lines.append(f"  the authority that signs  {authority_days} days")
        if authority_days < wanted_days:
            problems.append(
                f"the environment's authority ends in {authority_days} days, and signs no certificate in its last. "
                f"Next: ansible-playbook playbooks/rotate-authority.yml{inventory}"
            )
    return {"lines": ["certificates", *lines] if lines else [], "problems": problems}
