#!/usr/bin/python
# MIT License, see LICENSE at the root of the project.
"""Look at a host in one call: its stamp, and whether it can carry what the inventory gives it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.flotilla import host as facts
from ansible.module_utils.flotilla.balancer import BalancerError, held
from ansible.module_utils.flotilla.engine import Engine, EngineError
from ansible.module_utils.flotilla.problem import report

DOCUMENTATION = r"""
module: flotilla_host
short_description: Check a host before anything on it is touched
description:
  - Compares the provisioning stamp and checks system, ports, disk, memory and private address, in one call.
  - Every problem is reported, each with what to do next; the module fails when there is one.
  - With O(state=stamped) it writes the stamp and checks nothing.
options:
  host:
    description: Name of the host in messages.
    type: str
    required: true
  state:
    description: V(checked) looks; V(stamped) records that the host was provisioned.
    type: str
    choices: [checked, stamped]
    default: checked
  stamp:
    description: The stamp to expect or to write; the lookup C(flotilla_stamp) gives it.
    type: str
    default: ""
  checks:
    description: What to check.
    type: list
    elements: str
    choices: [os, ports, disk, memory, address]
    default: [os, ports, disk, memory, address]
  ports:
    description: Ports that nobody but the edge may hold.
    type: list
    elements: int
    default: []
  edge_project:
    description: Compose project of the edge, or of the balancer.
    type: str
    default: nginx
  private_address:
    description: Address that must be on an interface; empty to skip.
    type: str
    default: ""
  disk_free_mb:
    description: MiB that must be free, by path. A path that does not exist yet counts for its nearest parent.
    type: dict
    default: {}
  provisioning_disk_free_mb:
    description: >-
      The same, unless the stamp matches. A deploy judges the engine's disk itself: it can part with old releases.
    type: dict
    default: {}
  memory_once_mb:
    description: MiB of each thing that runs once, by name.
    type: dict
    default: {}
  memory_twice_mb:
    description: MiB of one colour of each app that is deployed, by name.
    type: dict
    default: {}
  declared_swap_mb:
    description: MiB of swap that the role C(base) makes; counted in place of active swap where the host is a container.
    type: int
    default: 0
attributes:
  check_mode:
    support: full
    description: Can run in check mode.
  diff_mode:
    support: none
    description: Will return details on what has changed.
author:
  - Flotilla contributors (@flotilla)
"""

EXAMPLES = r"""
- name: Look at the host
  flotilla_host:
    host: "{{ inventory_hostname }}"
    stamp: "{{ lookup('flotilla_stamp') }}"
    ports: [80, 443]
    private_address: "{{ private_address }}"
    disk_free_mb: {/opt: 512}
    provisioning_disk_free_mb: {/var/lib/docker: 2048}

- name: Record that the host is provisioned
  flotilla_host:
    host: "{{ inventory_hostname }}"
    state: stamped
    stamp: "{{ lookup('flotilla_stamp') }}"
"""

RETURN = r"""
stamp_matches:
  description: Whether the host was provisioned with this very stamp.
  returned: always
  type: bool
serves:
  description: Whether an app takes traffic at the host's edge.
  returned: O(state=checked)
  type: bool
drained:
  description:
    - C(app/host) of what an operator or a run keeps traffic away from, as the balancer on this host wrote it down.
  returned: O(state=checked), where a balancer runs
  type: list
  elements: str
os:
  description: C(id), C(version) and C(supported).
  returned: O(state=checked)
  type: dict
memory_bytes:
  description: The smaller of the machine's memory and the cgroup's limit.
  returned: O(state=checked)
  type: int
swap_bytes:
  description: Swap that is switched on; 0 in a container.
  returned: O(state=checked)
  type: int
container:
  description: Whether the host is a container.
  returned: O(state=checked)
  type: bool
disk_free_bytes:
  description: Free bytes by path of O(disk_free_mb) and O(provisioning_disk_free_mb).
  returned: O(state=checked)
  type: dict
port_holders:
  description: Who listens on O(ports), each with C(port), C(pid), C(process), C(container), C(unit) and C(ours).
  returned: O(state=checked)
  type: list
  elements: dict
engine_version:
  description: Version of the Docker engine; empty when none answers.
  returned: O(state=checked)
  type: str
private_address_present:
  description: Whether O(private_address) is on an interface.
  returned: O(state=checked)
  type: bool
ssh_connection:
  description: Where the connection comes from, as sshd tells it in SSH_CONNECTION; empty when it is no SSH connection.
  returned: O(state=checked)
  type: str
problems:
  description: Everything that is wrong, one line each.
  returned: O(state=checked)
  type: list
  elements: str
"""

STAMP = Path("/opt/flotilla/stamp.json")
LIVE = Path("/opt/flotilla/nginx/live")
BALANCER_STATE = Path("/opt/flotilla/haproxy/state/servers")


def read_stamp(path: Path) -> str:
    """The stamp of the last complete provisioning; empty when there is none that can be read."""
    try:
        return str(json.loads(path.read_text())["stamp"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def write_stamp(path: Path, stamp: str) -> None:
    """Replace the stamp in one step."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
        stream.write(json.dumps({"stamp": stamp}) + "\n")
    new.rename(path)


def read_drained(path: Path) -> dict[str, list[str]]:
    """`{"drained": [app/host, ...]}`; without the key where no balancer is, or what it wrote down cannot be read."""
    try:
        return {"drained": held(path.read_text())}
    except FileNotFoundError:
        # A balancer that was never asked to drain anything has the directory alone.
        return {"drained": []} if path.parent.is_dir() else {}
    except (OSError, BalancerError):
        return {}


def free_bytes(path: Path) -> int:
    """Free bytes of the file system that holds `path`, or will hold it."""
    while not path.exists() and path != path.parent:
        path = path.parent
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def engine_get(path: str, query: dict[str, str] | None = None) -> Any:
    """An answer of the engine, which a busy host may be slow to give; None when there is no engine."""
    try:
        return json.loads(Engine().call("GET", path, query=query, timeout=60))
    except (EngineError, OSError, ValueError):
        return None


def identify(holders: list[facts.Holder], edge_project: str) -> list[tuple[facts.Holder, bool]]:
    """Each holder of a port with whether it is the edge. The engine holds published ports itself."""
    if not any(holder.container or holder.process in facts.ENGINE_PROCESSES for holder in holders):
        return [(holder, False) for holder in holders]
    containers: list[dict[str, Any]] = engine_get("/containers/json") or []
    identified = []
    for holder in holders:
        for container in containers:
            published = {port.get("PublicPort") for port in container.get("Ports", [])}
            by_engine = holder.process in facts.ENGINE_PROCESSES and holder.port in published
            if container["Id"] == holder.container or by_engine:
                ours = container.get("Labels", {}).get("com.docker.compose.project") == edge_project
                named = replace(holder, process=container["Names"][0].lstrip("/"), container=container["Id"])
                identified.append((named, ours))
                break
        else:
            identified.append((holder, False))
    return identified


def check(params: dict[str, Any], *, provisioned: bool) -> dict[str, Any]:
    """Everything that is known about this host, and what is wrong with it."""
    name = params["host"]
    release = facts.parse_os_release(Path("/etc/os-release").read_text())
    system, version = release.get("ID", ""), release.get("VERSION_ID", "")
    wrong_os = facts.os_problem(name, system, version)
    memory = facts.read_memory()
    needed = {**params["disk_free_mb"], **({} if provisioned else params["provisioning_disk_free_mb"])}
    disk = {path: free_bytes(Path(path)) for path in needed}
    holders = identify(facts.port_holders(params["ports"]), params["edge_project"])
    addresses = facts.parse_fib_trie(Path("/proc/net/fib_trie").read_text())
    wrong_address = facts.address_problem(name, params["private_address"], addresses)
    found = {
        "os": [wrong_os],
        "ports": [facts.port_problem(name, holder) for holder, ours in holders if not ours],
        "disk": [facts.disk_problem(name, path, disk[path], int(size) * facts.MIB) for path, size in needed.items()],
        "memory": [
            facts.memory_problem(
                memory,
                {key: int(size) * facts.MIB for key, size in params["memory_once_mb"].items()},
                {key: int(size) * facts.MIB for key, size in params["memory_twice_mb"].items()},
                params["declared_swap_mb"] * facts.MIB,
                name,
            )
        ],
        "address": [wrong_address],
    }
    problems = [problem for topic in params["checks"] for problem in found[topic] if problem]
    return {
        "os": {"id": system, "version": version, "supported": wrong_os is None},
        "memory_bytes": memory.total_bytes,
        "swap_bytes": memory.swap_bytes,
        "container": memory.container,
        "disk_free_bytes": disk,
        "port_holders": [{**asdict(holder), "ours": ours} for holder, ours in holders],
        "engine_version": (engine_get("/version") or {}).get("Version", ""),
        "private_address_present": wrong_address is None,
        "ssh_connection": facts.ssh_connection(os.getpid()),
        "problems": [str(problem) for problem in problems],
        "msg": report(problems),
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "host": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["checked", "stamped"], "default": "checked"},
            "stamp": {"type": "str", "default": ""},
            "checks": {
                "type": "list",
                "elements": "str",
                "choices": ["os", "ports", "disk", "memory", "address"],
                "default": ["os", "ports", "disk", "memory", "address"],
            },
            "ports": {"type": "list", "elements": "int", "default": []},
            "edge_project": {"type": "str", "default": "nginx"},
            "private_address": {"type": "str", "default": ""},
            "disk_free_mb": {"type": "dict", "default": {}},
            "provisioning_disk_free_mb": {"type": "dict", "default": {}},
            "memory_once_mb": {"type": "dict", "default": {}},
            "memory_twice_mb": {"type": "dict", "default": {}},
            "declared_swap_mb": {"type": "int", "default": 0},
        },
        required_if=[("state", "stamped", ["stamp"])],
        supports_check_mode=True,
    )
    facts.step_back()
    facts.write_for_others()
    matches = bool(module.params["stamp"]) and read_stamp(STAMP) == module.params["stamp"]
    if module.params["state"] == "stamped":
        if not matches and not module.check_mode:
            write_stamp(STAMP, module.params["stamp"])
        module.exit_json(changed=not matches, stamp_matches=matches or not module.check_mode)
    result = check(module.params, provisioned=matches)
    if result["problems"]:
        module.fail_json(stamp_matches=matches, **result)
    del result["msg"]
    serves = any(LIVE.glob("*/deployed"))
    module.exit_json(changed=False, stamp_matches=matches, serves=serves, **read_drained(BALANCER_STATE), **result)


if __name__ == "__main__":
    main()
