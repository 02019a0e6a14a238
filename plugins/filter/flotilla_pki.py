"""Filters of the role pki: what is wrong, what is due, and what a run has issued."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError
from cryptography import x509

sys.path.append(str(Path(__file__).resolve().parents[1] / "module_utils"))
from flotilla.pki import authorities as authority_rules
from flotilla.pki import requests
from flotilla.pki.authorities import UNREADABLE, Authority, bundle
from flotilla.pki.certificates import (
    EXTENDED_KEY_USAGES,
    Declared,
    Rules,
    days_left,
    length_problems,
    outlives,
    problems,
    reasons,
)
from flotilla.pki.host import AUTHORITIES, CERTIFICATE, CHAIN, CURRENT, KEY
from flotilla.pki.lasting import lasting
from flotilla.pki.rotation import Step, after, mark, next_step, skipped
from flotilla.pki.services import certificates_of, serves_balancers, trusted_about_edges
from flotilla.problem import Problem, report

DOCUMENTATION = r"""
name: flotilla_pki
short_description: Certificates inside an environment
description:
  - C(flotilla_pki_problems) lists what is wrong with the inputs of the role.
  - C(flotilla_pki_places) is what the module C(flotilla_certificates) takes.
  - C(flotilla_pki_plan) says of each declared certificate whether a new one is due, and why.
  - C(flotilla_pki_too_short) says when the authority would end before a certificate that is due.
  - C(flotilla_pki_request_problems) lists what hosts ask to have signed and should not get.
  - C(flotilla_pki_files) are the files of new certificates for C(flotilla_files).
  - C(flotilla_pki_issued) and C(flotilla_pki_status) say what there is, for playbooks.
  - C(flotilla_pki_bundle) is the PEM text of all authorities that are trusted.
  - C(flotilla_pki_certificates) are the certificates that a host gets by what it does, from its variables.
  - C(flotilla_pki_serves_balancers) says whether an edge's clients are the environment's balancers, from its variables.
  - C(flotilla_pki_of_edges) are the authorities, as PEM texts, that balancers verify edges with; none where every edge
    was given a certificate.
  - C(flotilla_pki_next_step), C(flotilla_pki_after_step) and C(flotilla_pki_mark) are for a rotation of the authority.
  - C(flotilla_pki_skipped) says which hosts a list of authorities would cut off, because a step was skipped.
  - C(flotilla_pki_lasting) says of all hosts how long their certificates last, and what is wrong, for people.
positional: _input
options:
  _input:
    description: Declared certificates, a plan or authorities.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
trusted: "{{ pki_authorities | flotilla_pki_bundle }}"
"""

RETURN = r"""
_value:
  description: Text, empty when nothing is wrong; or a list or dictionary.
  type: raw
"""

Entries = Sequence[Mapping[str, Any]]
# The defaults of the role, for a playbook that does not run it.
VALID_DAYS, RENEW_DAYS = 397, 60


def flotilla_pki_problems(
    certificates: Entries,
    authorities: Entries,
    valid_days: int,
    renew_days: int,
    host: str,
    sources: Sequence[str],
) -> str:
    """All that is wrong, one a line with file, variable and next command; empty when nothing is.

    sources: the inventory's directories.
    """
    inventory = f"-i {' -i '.join(sources)}" if sources else "-i inventories/<environment>"
    vault = f"{Path(sources[-1]) if sources else Path('inventories/<environment>')}/vault.yml"
    found = []
    for variable, what in authority_rules.problems(authorities, _now()):
        absent = what.startswith("is empty")
        fix = (
            f'add pki_authorities: "{{{{ vault_pki_authorities | default([]) }}}}" to group_vars/all/pki.yml, then '
            f"ansible-playbook playbooks/secrets.yml {inventory}"
            if absent
            else f"correct vault_pki_authorities with ansible-vault edit, or remove it there and make another with "
            f"ansible-playbook playbooks/secrets.yml {inventory}"
        )
        found.append(Problem(vault, variable, what, fix))
    for variable, what in [*length_problems(int(valid_days), int(renew_days)), *problems(certificates)]:
        found.append(Problem(host, variable, what, "correct it in the inventory; see roles/pki/README.md"))
    return report(found)


def flotilla_pki_places(entries: Entries) -> list[dict[str, str]]:
    """Declared certificates, or a plan's, as the module `flotilla_certificates` wants them."""
    return [
        {key: str(entry[key]) for key in ("directory", "owner", "group", "mode", "version") if key in entry}
        for entry in entries
    ]


def flotilla_pki_plan(
    certificates: Entries, found: Mapping[str, Any], authorities: Entries, valid_days: int, renew_days: int
) -> list[dict[str, Any]]:
    """What is to become of each certificate: `changed`, with `reasons` and a new `version`, or it stays.

    found: what `flotilla_certificates` found, by directory.
    """
    rules = _rules(authorities, valid_days, renew_days)
    fresh = f"{rules.now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
    plan = []
    for one in (Declared.of(entry) for entry in certificates):
        there = found[one.directory]
        why = reasons(one, there, rules)
        version = fresh if why else str(there["version"])
        plan.append(
            {
                "name": one.name,
                "directory": one.directory,
                "changed": bool(why),
                "reasons": why,
                "version": version,
                "path": f"{one.directory}/{version}",
                "alternatives": one.alternatives(),
                "usages": [EXTENDED_KEY_USAGES[usage] for usage in one.usages],
                "owner": one.owner,
                "group": one.group,
                "mode": one.mode,
            }
        )
    return plan


def flotilla_pki_too_short(plan: Entries, authorities: Entries, valid_days: int, renew_days: int) -> str:
    """Why the authority cannot sign for so long, and what to do; empty when it can, or nothing is due."""
    if not any(entry["changed"] for entry in plan):
        return ""
    return "\n".join(
        f"{variable}: {what}. Next: lower {variable}, or rotate the authority as docs/how-to/certificates.md says"
        for variable, what in outlives(_rules(authorities, valid_days, renew_days))
    )


def flotilla_pki_request_problems(asked: Entries, certificates: Entries) -> str:
    """What requests ask for that was not declared, a line each; empty when every one is what was declared.

    asked: results of a loop of community.crypto.openssl_csr_pipe over the plan.
    """
    declared = {str(entry["name"]): Declared.of(entry) for entry in certificates}
    return "\n".join(
        f"{result['item']['name']}: {', '.join(found)}"
        for result in asked
        if (found := requests.problems(str(result["csr"]), declared[result["item"]["name"]]))
    )


def flotilla_pki_files(signed: Entries, authorities: Entries) -> list[dict[str, str]]:
    """The files beside the keys: certificate, chain, and who is trusted.

    signed: results of a loop of community.crypto.x509_certificate_pipe over results that have the plan's `item`.
    """
    trusted = [Authority.of(entry) for entry in authorities]
    files = []
    for result in signed:
        path, certificate = result["item"]["item"]["path"], str(result["certificate"])
        contents = {
            CERTIFICATE: certificate,
            CHAIN: certificate + trusted[0].pem,
            AUTHORITIES: bundle(trusted),
        }
        files += [{"path": f"{path}/{name}", "content": content} for name, content in contents.items()]
    return files


def flotilla_pki_issued(
    plan: Entries, found: Mapping[str, Any], signed: Entries, authorities: Entries
) -> dict[str, dict[str, Any]]:
    """The certificates by name, as playbooks hand them over. In check mode one that is due has no end yet."""
    fresh = {result["item"]["item"]["name"]: str(result["certificate"]) for result in signed}
    now, issued = _now(), {}
    for entry in plan:
        path = entry["path"]
        pem = fresh.get(entry["name"], "") if entry["changed"] else found[entry["directory"]]["certificate"]
        issued[entry["name"]] = {
            "changed": entry["changed"],
            "reasons": entry["reasons"],
            "version": entry["version"],
            "directory": entry["directory"],
            "current": f"{entry['directory']}/{CURRENT}",
            "path": path,
            "certificate": f"{path}/{CERTIFICATE}",
            "chain": f"{path}/{CHAIN}",
            "key": f"{path}/{KEY}",
            "authorities": f"{path}/{AUTHORITIES}",
            **_ends(pem, authorities, now),
        }
    return issued


def flotilla_pki_status(plan: Entries, found: Mapping[str, Any], authorities: Entries) -> list[dict[str, Any]]:
    """For each certificate: its end, the days left of it and of its authority, and why a new one is due, if it is."""
    now = _now()
    return [
        {
            "name": entry["name"],
            "directory": entry["directory"],
            "due": entry["reasons"],
            **_ends(found[entry["directory"]]["certificate"], authorities, now),
        }
        for entry in plan
    ]


def flotilla_pki_lasting(
    hostvars: Mapping[str, Any], hosts: Sequence[str], name: str, inventories: Sequence[str]
) -> dict[str, list[str]]:
    """`lines` and `problems` of what the hosts registered under `name`, the result of `flotilla_certificates`."""
    seen, silent, left, wanted = {}, {}, [], 0
    for host in hosts:
        variables = hostvars[host]
        authorities, said = variables.get("pki_authorities") or [], variables.get(name) or {}
        certificates = certificates_of(variables)
        if not authorities or not certificates:
            continue
        if "found" not in said:
            silent[host] = " ".join(str(said.get("msg", "it said nothing")).split())
            continue
        days = int(variables.get("pki_valid_days", VALID_DAYS)), int(variables.get("pki_renew_days", RENEW_DAYS))
        plan = flotilla_pki_plan(certificates, said["found"], authorities, *days)
        seen[host] = flotilla_pki_status(plan, said["found"], authorities)
        left += [entry["authority_days_left"] for entry in seen[host]]
        wanted = max(wanted, sum(days))
    command = "".join(f" -i {inventory}" for inventory in inventories)
    return lasting(seen, silent, min(left, default=None), wanted, command)


def flotilla_pki_next_step(authorities: Entries, reached: str) -> str:
    """The next step of a rotation. reached: the mark of the list that was last seen everywhere."""
    try:
        return str(next_step(authorities, str(reached)))
    except ValueError as error:
        raise AnsibleFilterError(
            f"vault_pki_authorities: {error}. Next: correct it with ansible-vault edit; see docs/how-to/certificates.md"
        ) from None


def flotilla_pki_after_step(authorities: Entries, step: str, new: Mapping[str, Any] | None = None) -> list[Any]:
    """The authorities after a step."""
    return after(authorities, Step(step), new)


def flotilla_pki_skipped(plan: Entries, found: Mapping[str, Any], authorities: Entries) -> str:
    """What speaks against issuing with these authorities, a line for each certificate; empty when nothing does."""
    return "\n".join(
        f"the certificate `{entry['name']}`: {why}"
        for entry in plan
        if (why := skipped(found[entry["directory"]], authorities))
    )


def flotilla_pki_bundle(authorities: Entries) -> str:
    """The PEM text of all authorities that are trusted, the oldest first, whoever signs.

    So an app that has it needs no new release when another of them begins to sign.
    """
    try:
        trusted = [Authority.of(entry) for entry in authorities]
        return bundle(sorted(trusted, key=lambda one: (one.certificate.not_valid_before_utc, one.pem)))
    except ValueError:
        raise AnsibleFilterError("pki_authorities: one of them has not exactly one certificate in PEM") from None


def _ends(pem: str, authorities: Entries, now: datetime) -> dict[str, Any]:
    """`not_after` and `days_left` of a certificate, empty and None without one; and the signing authority's days."""
    signer = Authority.of(authorities[0]).certificate
    ends = {"not_after": "", "days_left": None, "authority_days_left": days_left(signer.not_valid_after_utc, now)}
    try:
        end = x509.load_pem_x509_certificate(pem.encode()).not_valid_after_utc
    except UNREADABLE:
        return ends
    return ends | {"not_after": f"{end:%Y-%m-%dT%H:%M:%SZ}", "days_left": days_left(end, now)}


def _rules(authorities: Entries, valid_days: int, renew_days: int) -> Rules:
    return Rules([Authority.of(entry) for entry in authorities], int(renew_days), int(valid_days), _now())


def _now() -> datetime:
    return datetime.now(UTC)


class FilterModule:
    """Registers the filters."""

    def filters(self) -> dict[str, Callable[..., object]]:
        return {
            "flotilla_pki_after_step": flotilla_pki_after_step,
            "flotilla_pki_bundle": flotilla_pki_bundle,
            "flotilla_pki_certificates": certificates_of,
            "flotilla_pki_lasting": flotilla_pki_lasting,
            "flotilla_pki_mark": mark,
            "flotilla_pki_next_step": flotilla_pki_next_step,
            "flotilla_pki_of_edges": trusted_about_edges,
            "flotilla_pki_files": flotilla_pki_files,
            "flotilla_pki_issued": flotilla_pki_issued,
            "flotilla_pki_places": flotilla_pki_places,
            "flotilla_pki_plan": flotilla_pki_plan,
            "flotilla_pki_problems": flotilla_pki_problems,
            "flotilla_pki_request_problems": flotilla_pki_request_problems,
            "flotilla_pki_serves_balancers": serves_balancers,
            "flotilla_pki_skipped": flotilla_pki_skipped,
            "flotilla_pki_status": flotilla_pki_status,
            "flotilla_pki_too_short": flotilla_pki_too_short,
        }
