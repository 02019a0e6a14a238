"""An inventory or a limit that names nothing is refused by every playbook. To Ansible it is a run that ends well."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.controller import Done, ansible

ROOT = Path(__file__).resolve().parents[2]
PLAYBOOKS = sorted(str(path.relative_to(ROOT)) for path in (*ROOT.glob("*.yml"), *ROOT.glob("playbooks/*.yml")))
# What names Ansible's collections, and is no playbook.
PLAYBOOKS.remove("requirements.yml")
# It takes labs down without an environment.
LAB = "playbooks/lab.yml"


def refused(done: Done, *says: str) -> None:
    said = done.stdout + done.stderr
    assert done.returncode == 2, said
    assert "nothing to change" not in said
    for words in says:
        assert words in " ".join(said.split())


def run(playbook: str, *arguments: str) -> Done:
    return ansible("ansible-playbook", playbook, *arguments, ANSIBLE_LOCALHOST_WARNING="false")


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_an_inventory_that_is_not_there(playbook: str) -> None:
    there = "there are inventories/production, inventories/staging. Next: -i inventories/staging"
    refused(run(playbook, "-i", "inventories/stagin"), f"command line: -i: there is no inventories/stagin; {there}")


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_an_inventory_without_a_host(playbook: str, tmp_path: Path) -> None:
    (tmp_path / "inventories/empty/group_vars").mkdir(parents=True)
    (tmp_path / "inventories/full").mkdir()
    (tmp_path / "inventories/empty/hosts.yml").write_text("all: {children: {app: {}}}\n")
    there = f"there are {tmp_path}/inventories/empty, {tmp_path}/inventories/full"
    done = run(playbook, "-i", str(tmp_path / "inventories/empty"))
    refused(done, f"command line: -i: {tmp_path}/inventories/empty has no host; {there}. Next: ")


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_no_inventory(playbook: str) -> None:
    done = run(playbook, *(["--list-hosts"] if playbook == LAB else []))
    if playbook == LAB:
        assert done.returncode == 0, done.stdout + done.stderr
    else:
        refused(done, "command line: -i: is not given; there are inventories/production, inventories/staging. Next: ")


def test_the_syntax_is_checked_without_one() -> None:
    """As ansible-lint does."""
    done = run("deploy.yml", "--syntax-check")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("playbook", PLAYBOOKS)
@pytest.mark.parametrize("limit", ["stagin-1", "all:!staging-1"])
def test_a_limit_that_no_host_is_in(playbook: str, limit: str) -> None:
    done = run(playbook, "-i", "inventories/staging", "--limit", limit)
    near = " (did you mean `staging-1`?)" if limit == "stagin-1" else ""
    there = "there are app, postgres, redis, staging-1. Next: correct it"
    refused(done, f"command line: --limit: no host is in `{limit}`{near}; {there}")


@pytest.mark.parametrize("callback", ["flotilla", "default"])
@pytest.mark.parametrize("playbook", ["playbooks/logs.yml", "playbooks/restart.yml", "playbooks/unlock.yml"])
def test_a_limit_that_leaves_no_host_that_the_playbook_is_about(playbook: str, callback: str) -> None:
    arguments = ("-i", "inventories/production", "--limit", "postgres")
    done = ansible("ansible-playbook", playbook, *arguments, ANSIBLE_STDOUT_CALLBACK=callback)
    verb = Path(playbook).stem
    refused(done, f"command line: --limit: {verb}.yml is about no host in `postgres`. Next: correct it")


@pytest.mark.parametrize("file", ["hosts.yml", "group_vars/all/apps.yml", "group_vars/app.yml", "host_vars/a/b/c.yaml"])
@pytest.mark.parametrize("playbook", ["deploy.yml", "playbooks/status.yml", "playbooks/secrets.yml"])
def test_yaml_that_cannot_be_read_is_told_with_its_file_and_line(playbook: str, file: str, tmp_path: Path) -> None:
    """Ansible says neither of variables; and that hosts.yml is no inventory, and that there are no hosts then."""
    path = tmp_path / file
    (tmp_path / "hosts.yml").write_text("app: {hosts: {a: }}\n")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("app:\n  hosts: {a: }\nkey: a: b\n")
    done = run(playbook, "-i", str(tmp_path))
    refused(done, f"{path}:3: (syntax): is not YAML: mapping values are not allowed ")


def test_of_several_inventories_each_has_to_be_there() -> None:
    done = run("deploy.yml", "-i", "inventories/staging", "-i", ".lab/stagin")
    refused(done, "there is no .lab/stagin;")


@pytest.mark.parametrize("arguments", [[], ["--limit", "app"], ["--limit", "staging-*"]])
def test_what_is_there_is_taken(arguments: list[str]) -> None:
    done = run("deploy.yml", "-i", "inventories/staging", *arguments, "--list-hosts")
    assert done.returncode == 0, done.stdout + done.stderr
