"""What two environments share: each comparison finds the one thing that is the same, and nothing else is said."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from flotilla import isolation
from flotilla.agreed import Agreed, read
from flotilla.sharing import Environment, OpenedVault, Thing
from hypothesis import given
from hypothesis import strategies as st

KEY = b"of this run"
TITLES = {
    "addresses": "addresses: 2 and 2, none shared",
    "networks": "private networks: 1 and 1, none shared",
    "host_names": "host names: 1 and 1, none shared",
    "domains": "domains: 1 and 1, none shared",
    "projects": "Compose projects: no droplet is in both, so names may be the same",
    "private_keys": "private key files: 1 and 1, none shared",
    "authorized_keys": "authorised keys: 1 and 1, none shared",
    "vaults": "vaults: 1 and 1, each with an id and a password of its own",
    "secrets": "secrets: 2 and 2, none shared",
    "backup_places": "backup buckets: 1 and 1, none shared",
    "budgets": "budgets: 1 and 1, none shared",
}


def secret(label: str, value: str, environment: str) -> Thing:
    return Thing(isolation.keyed(KEY, value), label, f"{environment}/vault.yml", label.partition(".")[0])


def environment(name: str, number: int) -> Environment:
    """An environment of one host that has nothing in common with one of another number, the app's name aside."""
    return Environment(
        name=name,
        hosts={
            f"{name}-1": {
                "ansible_host": f"192.0.2.{number}",
                "private_address": f"10.{number}.0.10",
                "environment_private_network": f"10.{number}.0.0/16",
                "ansible_ssh_private_key_file": f"/keys/{name}",
                "backup_s3": {"endpoint": "https://s3.example.com", "bucket": f"backups-{name}"},
                "environment_budget": {"name": name, "monthly_usd": 30, "alert_percent": 80},
                "base_deploy_authorized_keys": [f"ssh-ed25519 AAAA{number}AAA {name}@laptop"],
            }
        },
        groups={"app" if number == 1 else "loadbalancer": [f"{name}-1"]},
        apps=[{"name": "notes", "domains": [f"{name}.example.com"]}],
        vaults=[
            OpenedVault(
                name, f"{name}/vault.yml", f".vault/{name}", frozenset({f"password of {name}"}), f"rekey {name}"
            )
        ],
        secrets=[secret("vault_a", f"{name} a", name), secret("vault_b", f"{name} b", name)],
        place=lambda variable, value: f"{name}/{variable}.yml:1",
        command=f"secrets -i {name}",
    )


STAGING, PRODUCTION = environment("staging", 1), environment("production", 2)


def changed(**variables: Any) -> Environment:
    """Production, its one host with other variables."""
    return replace(PRODUCTION, hosts={"production-1": {**PRODUCTION.hosts["production-1"], **variables}})


def compare(*environments: Environment) -> tuple[list[str], list[str]]:
    lines, problems = isolation.compare(environments)
    return lines, list(dict.fromkeys(str(problem) for problem in problems))


def test_what_has_nothing_in_common_gets_a_line_for_each_comparison() -> None:
    assert compare(STAGING, PRODUCTION) == (
        ["staging and production", *(f"  {line}" for line in TITLES.values())],
        [],
    )
    assert [comparison.__name__ for comparison in isolation.COMPARISONS] == list(TITLES)


ONE_SHARED = [
    pytest.param(
        "backup_places",
        changed(backup_s3={"endpoint": "S3.example.com/", "bucket": "backups-staging"}),
        "staging/bucket.yml:1: backup_s3.bucket: `backups-staging` is in production too (production/bucket.yml:1: "
        "backup_s3.bucket). Next: give each environment a bucket",
        id="a bucket of backups, its endpoint written otherwise",
    ),
    pytest.param(
        "budgets",
        changed(environment_budget={"name": "Staging", "monthly_usd": 80, "alert_percent": 80}),
        "staging/environment_budget.yml:1: environment_budget.name: `staging` is the same as `Staging` in production",
        id="a budget",
    ),
    pytest.param(
        "addresses",
        changed(ansible_host="192.0.2.1"),
        "staging/ansible_host.yml:1: ansible_host: `192.0.2.1` is in production too (production/ansible_host.yml:1: "
        "ansible_host). Next: give each host an address of its own",
        id="a public address",
    ),
    pytest.param(
        "addresses",
        changed(ansible_host="10.1.0.10"),
        "staging/private_address.yml:1: private_address: `10.1.0.10` is in production too",
        id="the private address of one is the public one of the other",
    ),
    pytest.param(
        "networks",
        changed(environment_private_network="10.0.0.0/8", private_address="10.2.0.10"),
        "staging/environment_private_network.yml:1: environment_private_network: `10.1.0.0/16` overlaps "
        "`10.0.0.0/8` in production (production/environment_private_network.yml:1: environment_private_network). Next: "
        "move one of",
        id="a network within the other's",
    ),
    pytest.param(
        "networks",
        changed(private_address="10.1.7.7"),
        "`10.1.0.0/16` overlaps `10.1.7.7` in production (production/private_address.yml:1: private_address)",
        id="a host in the other's network",
    ),
    pytest.param(
        "host_names",
        replace(PRODUCTION, hosts={"staging-1": PRODUCTION.hosts["production-1"]}),
        "staging/staging-1.yml:1: hosts: `staging-1` is in production too (production/staging-1.yml:1: hosts). Next: "
        "name the environment in the host's name, such as staging-app-1",
        id="a host's name",
    ),
    pytest.param(
        "domains",
        replace(PRODUCTION, apps=[{"name": "blog", "domains": ["staging.example.com"]}]),
        "staging/domains.yml:1: apps[notes].domains: `staging.example.com` is in production too "
        "(production/domains.yml:1: apps[blog].domains). Next: serve it from one of the two",
        id="a domain",
    ),
    pytest.param(
        "domains",
        replace(PRODUCTION, apps=[{"name": "blog", "domains": ["*.example.com"]}]),
        "`staging.example.com` overlaps `*.example.com` in production",
        id="a domain under the other's wildcard",
    ),
    pytest.param(
        "private_keys",
        changed(ansible_ssh_private_key_file="/keys/staging"),
        "staging/ansible_ssh_private_key_file.yml:1: ansible_ssh_private_key_file: `/keys/staging` is in production "
        "too (production/ansible_ssh_private_key_file.yml:1: ansible_ssh_private_key_file). Next: make another with",
        id="a private key file",
    ),
    pytest.param(
        "authorized_keys",
        changed(base_deploy_authorized_keys=['from="192.0.2.0/24" ssh-ed25519 AAAA1AAA other@laptop']),
        "staging/base_deploy_authorized_keys.yml:1: base_deploy_authorized_keys: `SHA256:",
        id="an authorised key with options and another comment",
    ),
    pytest.param(
        "vaults",
        replace(PRODUCTION, vaults=[replace(PRODUCTION.vaults[0], digests=STAGING.vaults[0].digests)]),
        "staging/vault.yml: vault password (.vault/staging): the password is the one of production too "
        "(production/vault.yml, opened by .vault/production). Next: rekey staging",
        id="a vault password",
    ),
    pytest.param(
        "vaults",
        replace(PRODUCTION, vaults=[replace(PRODUCTION.vaults[0], opened_by=frozenset({"staging"}))]),
        "production/vault.yml: vault password: the vault opens with a password of staging (.vault/staging). Next: "
        "rekey production",
        id="a vault that opens with the other's password",
    ),
    pytest.param(
        "vaults",
        replace(PRODUCTION, vaults=[replace(PRODUCTION.vaults[0], id="staging")]),
        "staging/vault.yml: vault id: `staging` is the id of production/vault.yml in production too",
        id="a vault id",
    ),
    pytest.param(
        "secrets",
        replace(PRODUCTION, secrets=[secret("vault_a", "staging a", "production"), PRODUCTION.secrets[1]]),
        "staging/vault.yml: vault_a: `vault_a` has the same value in production (production/vault.yml: vault_a). Next: "
        "give staging one of its own: put the name below secrets_values in FILE, then secrets -i staging -e @FILE",
        id="a secret under the same name",
    ),
    pytest.param(
        "secrets",
        replace(PRODUCTION, secrets=[PRODUCTION.secrets[0], secret("vault_users.mia", "staging a", "production")]),
        "staging/vault.yml: vault_a: `vault_a` has the value of `vault_users.mia` in production (production/vault.yml: "
        "vault_users)",
        id="a secret under another name",
    ),
]


@pytest.mark.parametrize(("comparison", "production", "message"), ONE_SHARED)
def test_the_one_thing_that_is_shared_is_found_and_nothing_else(
    comparison: str, production: Environment, message: str
) -> None:
    lines, problems = compare(STAGING, production)
    (problem,) = problems
    assert message in problem
    assert not any(line.startswith(f"  {TITLES[comparison].partition(':')[0]}:") for line in lines)
    assert len(lines) >= len(TITLES) - 1


@pytest.mark.parametrize(("comparison", "production", "message"), ONE_SHARED)
def test_the_order_of_the_environments_does_not_matter(comparison: str, production: Environment, message: str) -> None:
    assert len(compare(production, STAGING)[1]) == 1


def test_every_two_of_three_are_compared() -> None:
    third = replace(environment("uat", 3), secrets=[secret("vault_c", "staging b", "uat")])
    lines, problems = compare(STAGING, PRODUCTION, third)
    assert [line for line in lines if not line.startswith(" ")] == [
        "staging and production",
        "staging and uat",
        "production and uat",
    ]
    (problem,) = problems
    assert "`vault_b` has the value of `vault_c` in uat" in problem


def test_on_a_droplet_of_both_the_projects_are_compared() -> None:
    host = {**PRODUCTION.hosts["production-1"], "ansible_host": "192.0.2.1"}
    other = replace(PRODUCTION, hosts={"production-1": host})
    assert isolation.projects(STAGING, other).line == "Compose projects: 2 and 1, none shared"
    both = replace(other, groups={"app": ["production-1"], "postgres": ["production-1"]})
    finding = isolation.projects(STAGING, both)
    assert {problem.what.partition(" (")[0] for problem in finding.problems} == {"`notes`", "`nginx`"}


def test_a_host_without_ansible_host_is_reached_by_its_name() -> None:
    named = replace(PRODUCTION, hosts={"one.example.com": {}})
    (problem,) = isolation.addresses(named, changed(ansible_host="ONE.example.com.")).problems
    assert "`one.example.com` is the same as `ONE.example.com.` in production" in problem.what


def test_a_key_under_two_file_names_is_one_key() -> None:
    files = {name: [f"/real{name}", "digest"] for name in ("/keys/staging", "/keys/production")}
    both = replace(STAGING, key_files=files), replace(PRODUCTION, key_files=files)
    (problem,) = isolation.private_keys(*both).problems
    assert "`/keys/staging` is the same as `/keys/production`" in problem.what


AGREEABLE = [
    ("10.1.0.0/16", "10.0.0.0/8", changed(environment_private_network="10.0.0.0/8")),
    ("staging.example.com", "*.example.com", replace(PRODUCTION, apps=[{"name": "a", "domains": ["*.example.com"]}])),
    ("/keys/staging", "/keys/staging", changed(ansible_ssh_private_key_file="/keys/staging")),
    ("vault_a", "vault_x", replace(PRODUCTION, secrets=[secret("vault_x", "staging a", "production")])),
]


def entry(what: str, partner: str) -> Agreed:
    return Agreed(what, partner, "one of the two is going away", f"{what}.yml:1")


@pytest.mark.parametrize(("here", "there", "production"), AGREEABLE)
def test_what_both_allow_may_be_shared_and_is_told_with_its_reason(
    here: str, there: str, production: Environment
) -> None:
    lines, problems = compare(
        replace(STAGING, agreed=[entry(here, "production")]), replace(production, agreed=[entry(there, "staging")])
    )
    assert problems == []
    assert any(line.endswith(f"shared: {here} on purpose (one of the two is going away)") for line in lines)


@pytest.mark.parametrize(("here", "there", "production"), AGREEABLE)
def test_one_alone_cannot_allow_it(here: str, there: str, production: Environment) -> None:
    (problem,) = compare(replace(STAGING, agreed=[entry(here, "production")]), production)[1]
    assert "; staging allows it, production does not. Next: " in problem
    assert f'or add {{what: "{there}", with: staging, reason: …}} to environment_shared in production/' in problem
    (problem,) = compare(STAGING, replace(production, agreed=[entry(there, "staging")]))[1]
    assert "; production allows it, staging does not. Next: " in problem
    assert f'or add {{what: "{here}", with: production, reason: …}} to environment_shared in staging/' in problem


@pytest.mark.parametrize(
    ("what", "production"),
    [
        ("192.0.2.1", changed(ansible_host="192.0.2.1")),
        ("staging-1", replace(PRODUCTION, hosts={"staging-1": PRODUCTION.hosts["production-1"]})),
        ("staging", replace(PRODUCTION, vaults=[replace(PRODUCTION.vaults[0], digests=STAGING.vaults[0].digests)])),
    ],
)
def test_hosts_and_vaults_are_never_shared(what: str, production: Environment) -> None:
    both = replace(STAGING, agreed=[entry(what, "production")]), replace(production, agreed=[entry(what, "staging")])
    problems = compare(*both)[1]
    assert any("is in production too" in line or "is the one of production too" in line for line in problems)


def test_an_entry_that_allows_nothing_is_to_be_removed() -> None:
    agreed = [entry("vault_gone", "production"), entry("vault_gone", "uat")]
    assert compare(replace(STAGING, agreed=agreed), PRODUCTION)[1] == [
        "vault_gone.yml:1: environment_shared: `vault_gone` is allowed, and production does not have it. Next: "
        "remove the entry"
    ]


def place(variable: str, value: str) -> str:
    return "environment.yml:9"


def test_a_key_may_be_named_by_itself() -> None:
    entries, problems = read(
        [{"what": "ssh-ed25519 AAAA1AAA mia", "with": "production", "reason": "x"}], "staging", place
    )
    assert problems == []
    (problem,) = isolation.authorized_keys(
        STAGING, changed(base_deploy_authorized_keys=["ssh-ed25519 AAAA1AAA mia"])
    ).problems
    assert f"`{entries[0].what}`" in problem.what


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("x", "environment_shared: is not a list"),
        (["x"], "environment_shared[0]: is not a mapping"),
        ([{"what": "x", "with": "production"}], "environment_shared[0]: has no `reason`"),
        ([{"what": "x", "with": "production", "reason": " "}], "environment_shared[0]: has no `reason`"),
        ([{"what": "x", "with": "staging", "reason": "x"}], "environment_shared[0]: names this environment itself"),
        ([{"waht": "x", "with": "p", "reason": "x"}], "environment_shared[0]: has a key `waht` (did you mean `what`?)"),
    ],
)
def test_each_wrong_entry_is_told_with_an_example(value: Any, message: str) -> None:
    entries, problems = read(value, "staging", place)
    assert entries == []
    assert any(str(problem).startswith(f"environment.yml:9: {message}") for problem in problems)
    assert all("{what: vault_registry_password, with: production" in problem.next for problem in problems)


@pytest.mark.parametrize(
    ("hosts", "message"),
    [
        ({"a": {"environment_private_network": "10.0.0.0/33"}}, "`10.0.0.0/33` is not a network. Next: write a CIDR"),
        ({"a": {}, "b": {}}, "environment_private_network: is missing, and without it nobody can tell"),
    ],
)
def test_a_network_that_cannot_be_compared_is_refused(hosts: Mapping[str, Any], message: str) -> None:
    (problem,) = isolation.network_problems(replace(STAGING, hosts=hosts))
    assert message in str(problem)
    assert isolation.network_problems(STAGING) == []


networks = st.one_of(
    st.builds(
        lambda number, length: ipaddress.ip_network((number, length), strict=False),
        st.integers(0, 2**32 - 1),
        st.integers(0, 32),
    ),
    st.builds(
        lambda number, length: ipaddress.ip_network((number, length), strict=False),
        st.integers(0, 2**128 - 1),
        st.integers(0, 128),
    ),
)


@given(networks, networks)
def test_networks_overlap_when_one_holds_an_end_of_the_other(one: isolation.Network, other: isolation.Network) -> None:
    ends = (one[0] in other, one[-1] in other, other[0] in one, other[-1] in one)
    assert isolation.overlap(one, other) == isolation.overlap(other, one) == any(ends)


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_an_address_is_one_however_it_is_written(address: Any) -> None:
    spelled = {isolation.normal_address(text) for text in (str(address), f" {address.exploded} ", f"[{address}]")}
    assert len(spelled) == 1


@given(st.text(), st.text())
def test_no_text_breaks_a_comparison(one: str, other: str) -> None:
    isolation.normal_address(one)
    assert isolation.covers(one, other) == isolation.covers(other, one)
    assert isolation.covers(one, one)
    isolation.compare([changed(ansible_host=one, environment_private_network=other), STAGING])


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(values)
def test_every_text_in_a_secret_is_compared(value: Any) -> None:
    found = [text for _, text in isolation.leaves("vault_x", value)]

    def texts(item: Any) -> list[str]:
        if isinstance(item, dict):
            return [text for inner in item.values() for text in texts(inner)]
        if isinstance(item, list):
            return [text for inner in item for text in texts(inner)]
        return [] if item is None or isinstance(item, bool) or not str(item).strip() else [str(item).strip()]

    assert found == texts(value)


@given(st.lists(st.text(min_size=1)), st.lists(st.text(min_size=1)))
def test_secrets_are_told_exactly_when_one_has_the_value_of_another(one: list[str], other: list[str]) -> None:
    left = replace(STAGING, secrets=[secret(f"vault_{i}", value, "staging") for i, value in enumerate(one)])
    right = replace(PRODUCTION, secrets=[secret(f"vault_{i}", value, "production") for i, value in enumerate(other)])
    told = {
        (p.variable, p.what.partition("production/vault.yml: ")[2]) for p in isolation.secrets(left, right).problems
    }
    assert told == {
        (f"vault_{i}", f"vault_{j})") for i, mine in enumerate(one) for j, theirs in enumerate(other) if mine == theirs
    }


def test_a_digest_needs_the_key_of_its_run() -> None:
    assert isolation.keyed(b"a", "value") != isolation.keyed(b"b", "value")
    assert isolation.keyed(b"a", "value") == isolation.keyed(b"a", b"value")
