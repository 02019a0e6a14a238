"""playbooks/validate.yml over copies of the inventories that ship, with secrets that playbooks/secrets.yml made."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from flotilla import isolation, vault

from tests.unit import controller
from tests.unit.sharing import once

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = ("staging", "production")
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{:032d} operator of {}"


def ansible(book: str, home: Path, *arguments: str) -> tuple[int, str]:
    """Run a playbook; its exit status and all that it printed."""
    done = controller.ansible("ansible-playbook", book, *arguments, HOME=str(home))
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both inventories with secrets of their own, and a home with a key for each."""
    return once(tmp_path_factory, "environments", prepare)


def prepare(base: Path) -> None:
    keys = {"staging": "id_ed25519", "production": "id_ed25519_production"}
    (base / ".ssh").mkdir()
    for number, (name, key) in enumerate(keys.items()):
        (base / f".ssh/{key}").write_text(f"the private key of {name}\n")
        (base / f".ssh/{key}.pub").write_text(KEY.format(number, name) + "\n")
        shutil.copytree(ROOT / "inventories" / name, base / name, ignore=shutil.ignore_patterns("vault.yml"))
        password = base / name / ".vault-password"
        password.write_text(f"the vault password of {name}\n")
        password.chmod(0o600)
        given = base / f"{name}.yml"
        given.write_text(yaml.safe_dump({"secrets_values": {"vault_registry_password": f"registry token of {name}"}}))
        status, said = ansible("playbooks/secrets.yml", base, "-i", str(base / name), "-e", f"@{given}")
        assert status == 0, said


@pytest.fixture
def base(prepared: Path, tmp_path: Path) -> Iterator[Path]:
    """The same, to be changed; nothing but the test changes it."""
    copied = Path(shutil.copytree(prepared, tmp_path / "copy"))
    yield copied


def validate(base: Path, *directories: str, more: tuple[str, ...] = ()) -> tuple[int, str]:
    """Run the playbook over directories of `base`. No secret may be in what it says, nor may it leave a file behind."""
    before = contents(base)
    inventories = [part for name in directories for part in ("-i", str(base / name))]
    # These droplets are nowhere.
    more = (*more, "-e", "droplets=false")
    status, said = ansible("playbooks/validate.yml", base, *inventories, *more)
    assert [secret for secret in secrets_below(base) if secret in said] == []
    assert contents(base) == before
    return status, said


def contents(base: Path) -> dict[Path, bytes]:
    """Every file below, but what Ansible itself keeps in the home."""
    files = (path for path in base.rglob("*") if path.is_file() and ".ansible" not in path.parts)
    return {path: path.read_bytes() for path in files}


def secrets_below(base: Path) -> list[str]:
    """All secrets, vault passwords and private keys there."""
    files = [*base.rglob(".vault-password"), *(base / ".ssh").glob("*[!b]")]
    found = [path.read_text().strip() for path in files]
    for name in ENVIRONMENTS:
        found += [text for _, text in isolation.leaves(name, open_vault(base, name))]
    assert len(found) >= 14
    return found


def open_vault(base: Path, name: str) -> dict[str, Any]:
    return vault.open_vault(vault.locate(base / name, ROOT, {}), ROOT)[0]


def edit(path: Path, change: Callable[[str], str]) -> None:
    before = path.read_text()
    path.write_text(change(before))
    assert path.read_text() != before


def append(path: Path, text: str) -> None:
    edit(path, lambda before: f"{before}\n{text}\n")


def test_the_inventories_that_ship_share_nothing(base: Path) -> None:
    status, said = validate(base, *ENVIRONMENTS, more=("-vvv",))
    assert status == 0, said
    assert (
        """
staging: 1 host, 1 app, 9 secrets; its inputs are right; budget `staging`: 30 USD a month, alert at 80 %
production: 5 hosts, 1 app, 11 secrets; its inputs are right; budget `production`: 80 USD a month, alert at 80 %
staging and production
  addresses: 2 and 10, none shared
  private networks: 1 and 1, none shared
  host names: 1 and 5, none shared
  domains: 1 and 2, none shared
  Compose projects: no droplet is in both, so names may be the same
  private key files: 0 and 1, none shared
  authorised keys: 1 and 1, none shared
  vaults: 1 and 1, each with an id and a password of its own
  secrets: 9 and 11, none shared
  backup buckets: 0 and 0, none shared
  budgets: 1 and 1, none shared
"""
        in said
    )


def test_everything_that_is_shared_is_told_in_one_run_with_both_places(base: Path) -> None:
    production, staging = base / "production", base / "staging"
    edit(production / "hosts.yml", lambda text: text.replace("203.0.113.21", "198.51.100.10"))
    edit(production / "hosts.yml", lambda text: text.replace("production-cache-1", "staging-1"))
    topics, others = production / "group_vars/all", staging / "group_vars/all"
    edit(topics / "environment.yml", lambda text: text.replace("10.0.0.0/16", "10.0.0.0/8"))
    edit(topics / "apps.yml", lambda text: text.replace("[www.example.com,", "[staging.example.com,"))
    edit(topics / "base.yml", lambda text: text.replace("_production.pub", ".pub"))
    shutil.copy(base / ".ssh/id_ed25519_production", base / ".ssh/copy")
    append(others / "connection.yml", "ansible_private_key_file: ~/.ssh/copy")
    shutil.copy(staging / "vault.yml", production / "vault.yml")
    shutil.copy(staging / ".vault-password", production / ".vault-password")
    status, said = validate(base, *ENVIRONMENTS)
    assert status == 2
    for expected in (
        f"{staging}/hosts.yml:6: ansible_host: `198.51.100.10` is in production too "
        f"({production}/hosts.yml:21: ansible_host). Next: ",
        f"{others}/environment.yml:5: environment_private_network: `10.1.0.0/16` overlaps `10.0.0.0/8` in production "
        f"({topics}/environment.yml:5: environment_private_network). Next: ",
        f"{staging}/hosts.yml:5: hosts: `staging-1` is in production too ({production}/hosts.yml:26: hosts). Next: ",
        f"{others}/apps.yml:9: apps[notes].domains: `staging.example.com` is in production too "
        f"({topics}/apps.yml:9: apps[notes].domains). Next: ",
        f"{staging}/hosts.yml:9: postgres: `postgres` (staging-1) is in production too "
        f"({production}/hosts.yml:18: postgres). Next: ",
        f"{others}/connection.yml:6: ansible_private_key_file: `~/.ssh/copy` is the same as "
        f"`~/.ssh/id_ed25519_production` in production ({topics}/connection.yml:6: "
        "ansible_ssh_private_key_file). Next: ",
        f" (operator of staging) is in production too ({topics}/base.yml:5: base_deploy_authorized_keys). Next: ",
        f"{staging}/vault.yml: vault id: `staging` is the id of {production}/vault.yml in production too. Next: ",
        f"{staging}/vault.yml: vault password ({staging}/.vault-password): the password is the one of production too "
        f"({production}/vault.yml, opened by {production}/.vault-password). Next: ansible-playbook playbooks/rekey.yml",
        f"{staging}/vault.yml: vault_registry_password: `vault_registry_password` has the same value in production "
        f"({production}/vault.yml: vault_registry_password). Next: ",
    ):
        assert expected in said
    assert said.count("has the same value in production") == 9


def test_a_secret_under_another_name_is_found_and_may_be_shared_on_purpose(base: Path) -> None:
    shared = open_vault(base, "staging")["vault_registry_password"]
    production = vault.locate(base / "production", ROOT, {})
    values, password = vault.open_vault(production, ROOT)
    vault.write_vault(production, {**values, "vault_accounts": {"registry": shared}}, password)
    status, said = validate(base, *ENVIRONMENTS)
    assert status == 2
    assert "`vault_registry_password` has the value of `vault_accounts.registry` in production" in said
    # A message that quotes an inventory does not quote the secret in it.
    topics = {name: base / name / "group_vars/all/environment.yml" for name in ENVIRONMENTS}
    append(topics["staging"], f'environment_shared:\n  - {{what: "{shared}", with: production, reason: moving}}')
    said = validate(base, *ENVIRONMENTS)[1]
    assert "`********` is allowed, and production does not have it" in said

    edit(topics["staging"], lambda text: text.replace(f'"{shared}"', "vault_registry_password"))
    status, said = validate(base, *ENVIRONMENTS)
    assert status == 2
    assert "staging allows it, production does not" in said
    entry = '{what: "vault_accounts.registry", with: staging, reason: …}'
    assert f"add {entry} to environment_shared in {topics['production']}" in said
    append(topics["production"], "environment_shared: [{what: vault_accounts.registry, with: staging, reason: moving}]")
    status, said = validate(base, *ENVIRONMENTS)
    assert status == 0, said
    assert "  secrets: 9 and 12, shared: vault_registry_password on purpose (moving)" in said


def test_each_environment_s_own_inputs_are_checked(base: Path) -> None:
    append(base / "production/group_vars/all/redis.yml", "redis_memroy_mb: 1")
    shared = base / "staging/group_vars/all/environment.yml"
    append(shared, "environment_shared: [{what: x, with: production}]")
    edit(base / "staging/group_vars/all/apps.yml", lambda text: text.replace('    version: "1.0.0"\n', ""))
    status, said = validate(base, *ENVIRONMENTS)
    assert status == 2
    assert said.count("redis_memroy_mb: is not a variable of the role `redis`") == 1
    last = len(shared.read_text().splitlines())
    assert f"{shared}:{last}: environment_shared[0]: has no `reason`" in said
    # A version may be left to the command line of a deploy.
    assert "no version is given" not in said


def test_one_environment_is_checked_by_itself(base: Path) -> None:
    status, said = validate(base, "production")
    assert status == 0, said
    assert "budget `production`: 80 USD a month, alert at 80 %\none environment; to compare it" in said


def test_an_image_out_of_support_is_told_with_its_variable_and_refuses_nothing(base: Path) -> None:
    topics = base / "staging/group_vars/all"
    append(topics / "docker.yml", "nginx_image: nginx:1.26")
    status, said = validate(base, "staging")
    assert status == 0, said
    told = " ".join(said.split())
    assert f"{topics}/docker.yml:" in told
    assert "nginx_image: nginx:1.26 has been out of support since 2025-04-23" in told
    assert "Next: set nginx_image: nginx:1.30, then ansible-playbook playbooks/provision.yml -i" in told
    assert "redis_image" not in told


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            ("staging", "nowhere"),
            "command line: -i: there is no {base}/nowhere; there are {base}/production, ",
        ),
        (("staging", "staging/hosts.yml"), "command line: -i: {base}/staging/hosts.yml is given twice"),
        ((), "command line: -i: is not given; there are inventories/production, inventories/staging. Next: "),
    ],
)
def test_an_inventory_that_cannot_be_compared_is_told_with_the_command(
    base: Path, given: tuple[str, ...], message: str
) -> None:
    status, said = validate(base, *given)
    assert status == 2
    assert message.format(base=base) in said


def test_two_environments_have_two_names(base: Path) -> None:
    shutil.copytree(base / "staging", base / "uat")
    status, said = validate(base, "staging", "uat")
    assert status == 2
    assert (
        f"{base}/uat/group_vars/all/environment.yml:2: environment_name: `staging` is the name of the environment in "
        f"{base}/staging/group_vars/all/environment.yml:2 too. Next: give one of the two another name"
    ) in said


def test_a_vault_without_its_password_is_told_with_the_command(base: Path) -> None:
    (base / "uat").mkdir()
    for name in ("hosts.yml", "vault.yml"):
        shutil.copy(base / "production" / name, base / "uat" / name)
    status, said = validate(base, "staging", "uat")
    assert status != 0
    assert f"{base}/uat/vault.yml: its password is not at .vault/uat.password" in said
    assert "Next: install -D -m 600 <the copy you kept> .vault/uat.password" in said


def test_an_inventory_of_the_lab_lies_over_the_one_before_it(base: Path) -> None:
    for number, name in enumerate(ENVIRONMENTS):
        overlay = base / "lab" / name
        (overlay / "group_vars/all").mkdir(parents=True)
        shutil.move(base / name / ".vault-password", overlay / ".vault-password")
        shutil.move(base / name / "vault.yml", overlay / "vault.yml")
        host = ("staging-1", "production-app-1")[number]
        (overlay / "hosts.yml").write_text(f"all: {{hosts: {{{host}: {{ansible_host: 127.0.0.1}}}}}}\n")
        (overlay / "group_vars/all/lab.yml").write_text("vault_extra: given by the lab\n")
    status, said = ansible(
        "playbooks/validate.yml",
        base,
        *(part for name in ENVIRONMENTS for part in ("-i", str(base / name), "-i", str(base / "lab" / name))),
    )
    assert status == 2
    assert f"{base}/lab/staging/hosts.yml:1: ansible_host: `127.0.0.1` is in production too" in said
    assert f"{base}/lab/staging/group_vars/all/lab.yml:1: vault_extra: `vault_extra` has the same value" in said
    assert "given by the lab" not in said
    assert "is the name of the environment" not in said


def test_public_certificates_are_checked_and_their_keys_made(base: Path) -> None:
    settings = base / "production/group_vars/all/acme.yml"
    settings.write_text('acme_email: operations@example.com\nacme_account_key: "{{ vault_acme_account_key }}"\n')
    apps = base / "production/group_vars/all/apps.yml"
    edit(apps, lambda text: text.replace("[www.example.com, example.com]", '[www.example.com, "*.example.com"]'))
    status, said = validate(base, "production")
    assert status != 0
    assert "`vault_acme_account_key` has no value" in said
    status, said = ansible("playbooks/secrets.yml", base, "-i", str(base / "production"))
    assert status == 0, said
    assert "BEGIN PRIVATE KEY" in open_vault(base, "production")["vault_acme_account_key"]
    status, said = validate(base, "production")
    assert status != 0
    assert "domains: *.example.com: a wildcard is only signed after a DNS challenge, and acme_challenge is http" in said
    assert "group_vars/all/apps.yml:" in said
    append(settings, "acme_challenge: dns\nacme_dns_provider: digitalocean")
    status, said = validate(base, "production")
    assert status == 0, said
