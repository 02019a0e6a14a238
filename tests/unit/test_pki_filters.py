"""The filters of the role pki: messages with the next command, the plan, and what a run hands over."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from plugins.filter import flotilla_pki as filters
from tests.unit import pki_data as data

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
AUTHORITIES = [data.authority(NOW - DAY, NOW + 1000 * DAY), data.authority(NOW - DAY, NOW + 3000 * DAY)]
WEB: dict[str, Any] = {
    "name": "web",
    "directory": "/certs",
    "dns_names": ["web.internal"],
    "ip_addresses": ["10.0.0.1"],
    "owner": "101",
}
NOTHING = {"version": "", "certificate": "", "chain": "", "authorities": "", "key_matches": False, "key_private": False}


def signed(days: float) -> dict[str, Any]:
    """What is on the host."""
    certificate = data.certificate(AUTHORITIES[0], begins=NOW - DAY, ends=NOW + days * DAY)
    return {
        "version": "20250101T000000Z-000000",
        "certificate": certificate,
        "chain": certificate + AUTHORITIES[0]["certificate"],
        "authorities": "".join(one["certificate"] for one in AUTHORITIES),
        "key_matches": True,
        "key_private": True,
    }


def plan(found: dict[str, Any], valid_days: int = 90, renew_days: int = 30) -> list[dict[str, Any]]:
    return filters.flotilla_pki_plan([WEB], {"/certs": found}, AUTHORITIES, valid_days, renew_days)


@pytest.mark.parametrize(
    ("sources", "where", "command"),
    [
        (
            ["inventories/staging"],
            "inventories/staging/vault.yml: pki_authorities: is empty",
            "ansible-playbook playbooks/secrets.yml -i inventories/staging",
        ),
        (
            ["inventories/staging", ".lab/x/staging"],
            ".lab/x/staging/vault.yml",
            "-i inventories/staging -i .lab/x/staging",
        ),
        ([], "inventories/<environment>/vault.yml", "-i inventories/<environment>"),
    ],
)
def test_a_missing_authority_names_file_variable_and_command(sources: list[str], where: str, command: str) -> None:
    text = filters.flotilla_pki_problems([], [], 90, 30, "db-1", sources)
    assert text.startswith(where)
    assert text.endswith(command)


def test_everything_wrong_is_told_at_once() -> None:
    wrong = [WEB | {"dns_names": ["a b"]}]
    authorities = [AUTHORITIES[0] | {"key": "secret-key"}]
    text = filters.flotilla_pki_problems(wrong, authorities, 10, 10, "db-1", ["inventories/staging"])
    assert [line.split(": ")[:2] for line in text.splitlines()] == [
        ["inventories/staging/vault.yml", "pki_authorities[0].key"],
        ["db-1", "pki_renew_days"],
        ["db-1", "pki_certificates[0].dns_names"],
    ]
    assert text.count("Next: ") == 3
    assert "secret-key" not in text


def test_nothing_is_wrong() -> None:
    assert filters.flotilla_pki_problems([WEB], AUTHORITIES, 90, 30, "db-1", ["inventories/staging"]) == ""


def test_what_is_due_gets_a_version_of_its_own() -> None:
    first, second = plan(NOTHING)[0], plan(NOTHING)[0]
    assert first["changed"]
    assert first["reasons"] == ["there is none"]
    assert first["version"] != second["version"]
    assert first["path"] == f"/certs/{first['version']}"
    assert (first["alternatives"], first["usages"]) == (["DNS:web.internal", "IP:10.0.0.1"], ["serverAuth"])


def test_what_is_not_due_keeps_its_version() -> None:
    entry = plan(signed(days=80) | {"key_private": True})[0]
    assert (entry["changed"], entry["reasons"], entry["version"]) == (False, [], "20250101T000000Z-000000")


def test_the_plan_is_what_the_module_takes() -> None:
    assert filters.flotilla_pki_places([WEB]) == [{"directory": "/certs", "owner": "101"}]
    made = plan(NOTHING)
    assert filters.flotilla_pki_places(made) == [
        {"directory": "/certs", "owner": "101", "group": "root", "mode": "0600", "version": made[0]["version"]}
    ]


def test_an_authority_that_ends_first_is_told_only_where_something_is_due() -> None:
    assert filters.flotilla_pki_too_short(plan(signed(days=80)), AUTHORITIES, 1001, 30) == ""
    text = filters.flotilla_pki_too_short(plan(NOTHING), AUTHORITIES, 1001, 30)
    assert text.startswith("pki_valid_days: is 1001, and the authority that signs ends in 999 days")
    assert "Next: lower pki_valid_days, or rotate the authority as docs/how-to/certificates.md says" in text


def test_a_request_is_held_against_what_was_declared() -> None:
    asked = [{"item": {"name": "web"}, "csr": data.request()}]
    assert filters.flotilla_pki_request_problems(asked, [WEB]) == ""
    asked[0]["csr"] = data.request(names=["DNS:postgres"])
    assert filters.flotilla_pki_request_problems(asked, [WEB]) == "web: it has other names"


def test_files_and_report_of_a_new_certificate() -> None:
    made = plan(NOTHING)
    certificate = data.certificate(AUTHORITIES[0], begins=NOW - DAY, ends=NOW + 90.5 * DAY)
    results = [{"item": {"item": made[0]}, "certificate": certificate}]
    files = {entry["path"]: entry["content"] for entry in filters.flotilla_pki_files(results, AUTHORITIES)}
    path = made[0]["path"]
    assert files == {
        f"{path}/tls.crt": certificate,
        f"{path}/chain.crt": certificate + AUTHORITIES[0]["certificate"],
        f"{path}/ca.crt": AUTHORITIES[0]["certificate"] + AUTHORITIES[1]["certificate"],
    }
    issued = filters.flotilla_pki_issued(made, {"/certs": NOTHING}, results, AUTHORITIES)["web"]
    assert (issued["key"], issued["authorities"], issued["current"]) == (
        f"{path}/tls.key",
        f"{path}/ca.crt",
        "/certs/current",
    )
    assert (issued["changed"], issued["days_left"], issued["authority_days_left"]) == (True, 90, 999)
    assert not any("PRIVATE KEY" in text for text in [*files.values(), str(issued)])


def test_the_report_of_one_that_stays_and_of_one_that_check_mode_would_make() -> None:
    there = signed(days=80.5)
    kept = filters.flotilla_pki_issued(plan(there), {"/certs": there}, [], AUTHORITIES)["web"]
    assert (kept["changed"], kept["days_left"]) == (False, 80)
    checked = filters.flotilla_pki_issued(plan(NOTHING), {"/certs": NOTHING}, [], AUTHORITIES)["web"]
    assert (checked["changed"], checked["days_left"], checked["not_after"]) == (True, None, "")


def test_the_status_says_what_is_due() -> None:
    there = signed(days=20.5)
    assert filters.flotilla_pki_status(plan(there), {"/certs": there}, AUTHORITIES) == [
        {
            "name": "web",
            "directory": "/certs",
            "due": ["it ends in 20 days"],
            "not_after": f"{NOW + 20.5 * DAY:%Y-%m-%dT%H:%M:%SZ}",
            "days_left": 20,
            "authority_days_left": 999,
        }
    ]


def test_a_bundle_of_rubbish_is_refused() -> None:
    with pytest.raises(AnsibleFilterError, match="pki_authorities: one of them has not exactly one certificate"):
        filters.flotilla_pki_bundle([{"certificate": "rubbish"}])
