"""What the hosts of an environment said, judged together."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from flotilla.trail import Head, read_chain, seal

PLUGIN = Path(__file__).resolve().parents[2] / "plugins/action/flotilla_findings.py"
ARGS = {"names_file": "", "certificate_days": 14, "acknowledged": ""}


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The action plugin; it keeps what it saw in a directory of the test's."""
    spec = importlib.util.spec_from_file_location("flotilla_findings", PLUGIN)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    specs = module.options(PLUGIN.parents[2] / "roles")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.delenv("FLOTILLA_HOME", raising=False)
    monkeypatch.setattr(module, "options", lambda _: specs)
    return module


def log(*verbs: str, environment: str = "production") -> str:
    """A trail without a fault, in which these verbs are written down."""
    head, text = Head(), ""
    for verb in verbs:
        text += seal({"verb": verb, "by": {"environment": environment}}, head) + "\n"
        head = read_chain(text).head
    return text


def well(address: str) -> dict[str, Any]:
    """What a database host said that is as it should be."""
    return {
        "group_names": ["postgres"],
        "private_address": address,
        "validate_trail": {
            **{"key": "SHA256:a", "text": log("deploy"), "problems": [], "notes": []},
        },
        "validate_host": {
            **{"findings": [], "notes": [], "ports": [22], "served": {}, "session": {"from": "192.0.2.1"}},
            "builds": {"nginx": {"image": "nginx:1.30", "digest": "sha256:aa"}},
        },
        "validate_outside": {"reached": {"203.0.113.1": [22]}},
        "validate_neighbours": {"reached": {}},
    }


def judged(plugin: ModuleType, said: dict[str, dict[str, Any]], acknowledged: str = "") -> dict[str, Any]:
    variables = {
        "ansible_play_hosts_all": list(said),
        "hostvars": said,
        "groups": {"all": list(said), "postgres": list(said)},
        "environment_name": "production",
    }
    found: dict[str, Any] = plugin.judged(variables, {**ARGS, "acknowledged": acknowledged})
    return found


def test_two_builds_of_one_image_are_a_finding(plugin: ModuleType) -> None:
    other = well("10.0.0.2")
    other["validate_host"]["builds"] = {"nginx": {"image": "nginx:1.30", "digest": "sha256:bb"}}
    found = judged(plugin, {"app-1": well("10.0.0.1"), "app-2": other})
    assert found["number"] == 1
    said = " ".join(" ".join(found["lines"]).split())
    assert "app-2 images nginx:1.30 is sha256:bb here, and sha256:aa on app-1: two builds of one name" in said
    assert "nginx_image: nginx:1.30@<one of them>, then ansible-playbook playbooks/provision.yml" in said


def test_hosts_that_are_well_are_no_finding_and_are_remembered(plugin: ModuleType, tmp_path: Path) -> None:
    found = judged(plugin, {"db-1": well("10.0.0.1"), "db-2": well("10.0.0.2")})
    assert found["number"] == 0
    assert found["lines"] == ["2 of 2 hosts answered; their logs have 2 entries"]
    assert (tmp_path / ".flotilla/production/trail.json").exists()


@pytest.mark.parametrize(
    "silence",
    [{"unreachable": True, "msg": "no route to host"}, {"failed": False, "msg": "no python"}, {}],
    ids=["unreachable", "failed", "not-asked"],
)
def test_a_host_that_says_nothing_is_a_finding_and_hides_no_other(plugin: ModuleType, silence: dict[str, Any]) -> None:
    other = well("10.0.0.2")
    other["validate_outside"]["reached"]["203.0.113.1"].append(9999)
    found = judged(plugin, {"db-1": {**well("10.0.0.1"), "validate_trail": silence}, "db-2": other})
    assert found["number"] == 2
    assert any("it could not be looked at: " in line for line in found["lines"])
    assert any("port 9999 answers the control node" in line for line in found["lines"])


def test_entries_of_another_environment_are_a_finding(plugin: ModuleType) -> None:
    said = well("10.0.0.1")
    said["validate_trail"]["text"] = log("deploy", environment="staging")
    assert any("it has entries of staging" in line for line in judged(plugin, {"db-1": said})["lines"])


ATTACKS = {
    "another-machine-with-the-log": {"key": "SHA256:b"},
    "the-log-is-cut": {"text": log("deploy")},
    "the-log-is-gone": {"text": ""},
    "a-chain-without-a-fault-of-its-own": {"text": log("deploy", "maintenance", "maintenance")},
    "another-machine-with-a-new-chain": {"key": "SHA256:b", "text": log("provision")},
    "a-line-was-changed-and-the-host-says-all-is-well": {"text": log("deploy", "exec").replace("exec", "none")},
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_the_suspect_is_not_believed_until_a_person_says_so(plugin: ModuleType, attack: dict[str, Any]) -> None:
    said = well("10.0.0.1")
    said["validate_trail"]["text"] = log("deploy", "exec")
    assert judged(plugin, {"db-1": said})["number"] == 0
    forged = {"db-1": {**said, "validate_trail": {**said["validate_trail"], **attack}}}
    # A deploy meanwhile is told the head of the forged log, and must not forget the other.
    head = read_chain(forged["db-1"]["validate_trail"]["text"]).head
    plugin.kept_of({"environment_name": "production"}).add({"db-1": [head.number + 9, head.hash]})
    assert judged(plugin, forged)["number"] >= 1
    assert judged(plugin, forged)["number"] >= 1


def test_what_a_person_acknowledged_is_kept_from_then_on(plugin: ModuleType) -> None:
    old, new = well("10.0.0.1"), well("10.0.0.1")
    new["validate_trail"] |= {"text": log("provision"), "key": "SHA256:b"}
    assert judged(plugin, {"db-1": old})["number"] == 0
    assert "-e acknowledged=db-1" in " ".join(" ".join(judged(plugin, {"db-1": new})["lines"]).split())
    assert judged(plugin, {"db-1": new}, "db-1")["number"] == 0
    assert judged(plugin, {"db-1": new})["number"] == 0
    assert judged(plugin, {"db-1": old})["number"] == 1


def test_what_is_kept_of_a_host_is_written_by_two_places_alone() -> None:
    """A new one must not take a host's word for its own log: `settle` is for what this control node has followed."""
    found = {
        (path.stem, node.func.attr)
        for path in PLUGIN.parents[1].rglob("*.py")
        if "flotilla.witnesses" in (text := path.read_text()) or "from .witnesses" in text
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("add", "settle")
    }
    assert {one for one in found if one[0].startswith("flotilla_")} == {
        ("flotilla_findings", "settle"),
        ("flotilla_outcome", "add"),
    }
    assert len(found) == 2
