#!/usr/bin/python
# MIT License, see LICENSE at the root of the project.
"""Ask the load balancer on this host, or change what it does, without dropping a request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.flotilla.balancer import OPERATOR, Admin, BalancerError, chosen, counted
from ansible.module_utils.flotilla.balancing import DIRECTORY, Balancer, HostsError, Master, each
from ansible.module_utils.flotilla.record import entry, leave
from ansible.module_utils.flotilla.trail import Step, Trail

DOCUMENTATION = r"""
module: flotilla_balancer
short_description: Drain hosts at the load balancer, take them back, reload it, show the maintenance page
description:
  - Speaks to HAProxy's master over its socket, and through it to all workers, also those that a reload replaced and
    that still finish what they have.
  - What is drained, and which maintenance pages are on, is written down on the host and outlives reloads and restarts.
options:
  state:
    description:
      - V(status) tells what every server is; V(counters) what it has answered since the worker started.
      - V(drained) sends nothing new to O(hosts) and waits until nothing is in flight there.
      - V(ready) takes O(hosts) back as soon as their health checks pass, and waits for that.
      - V(maintenance) shows the page instead of an app, or the app again.
      - V(reloaded) reads the configuration anew. What was drained stays drained.
    type: str
    choices: [status, counters, drained, ready, maintenance, reloaded]
    default: status
  hosts:
    description: Names of app hosts; needed to drain them and to take them back.
    type: list
    elements: str
    default: []
  apps:
    description: Names of apps; all when there is none.
    type: list
    elements: str
    default: []
  maintenance:
    description: Whether the page is shown. Needed with O(state=maintenance).
    type: bool
  seconds:
    description: How long to wait for each host to be V(drained) or V(ready).
    type: float
    default: 30
  wait:
    description: Whether V(drained) waits for what is in flight; without, it only sends nothing new there.
    type: bool
    default: true
  cut:
    description: When the time for V(drained) is over, end what is still in flight, and do not fail.
    type: bool
    default: false
  last:
    description: Whether V(drained) is done although no other host takes the traffic of an app then.
    type: bool
    default: false
  host:
    description: The inventory's name of the balancer's host, for its trail.
    type: str
    default: ""
  run:
    description: Who asks, for the trail, as the lookup C(flotilla_who) says it; V(maintenance) leaves an entry there.
    type: dict
  directory:
    description: The directory of the role C(haproxy) on the host.
    type: path
    default: /opt/flotilla/haproxy
attributes:
  check_mode: {support: full}
  diff_mode: {support: none}
author: The Flotilla authors
"""

EXAMPLES = r"""
- name: Drain a host
  flotilla_balancer:
    state: drained
    hosts: [production-app-1]
    seconds: 60
  delegate_to: production-lb-1

- name: Take it back
  flotilla_balancer:
    state: ready
    hosts: [production-app-1]
  delegate_to: production-lb-1
"""

RETURN = r"""
servers:
  description:
    - All servers with C(app), C(host), C(condition) (up, down, draining, drained), C(status) and C(check) as HAProxy
      says them, C(sessions) in flight, and counters.
  returned: always, but for failures
  type: list
  elements: dict
counters:
  description:
    - App, host, and then C(requests), C(errors_5xx), C(connection_errors), C(response_errors), C(retries) and
      C(redispatches).
  returned: O(state=counters)
  type: dict
worker:
  description: Process id of the worker that counted; with another one, the counters began at 0.
  returned: O(state=counters)
  type: int
maintained:
  description: Apps whose maintenance page is on.
  returned: O(state=status) and O(state=maintenance)
  type: list
  elements: str
trouble:
  description:
    - Host to why it could not be drained, or taken back. One that nobody drained, and that is down, is not in it.
  returned: when O(state=drained) or O(state=ready) failed for some of O(hosts)
  type: dict
notes:
  description: What a person should know of what was done.
  returned: O(state=drained)
  type: list
  elements: str
"""

SPEC: dict[str, dict[str, Any]] = {
    "state": {
        "type": "str",
        "choices": ["status", "counters", "drained", "ready", "maintenance", "reloaded"],
        "default": "status",
    },
    "hosts": {"type": "list", "elements": "str", "default": []},
    "apps": {"type": "list", "elements": "str", "default": []},
    "maintenance": {"type": "bool"},
    "seconds": {"type": "float", "default": 30.0},
    "wait": {"type": "bool", "default": True},
    "cut": {"type": "bool", "default": False},
    "last": {"type": "bool", "default": False},
    "host": {"type": "str", "default": ""},
    "run": {"type": "dict"},
    "directory": {"type": "path", "default": str(DIRECTORY)},
}


def would_change(balancer: Balancer, params: dict[str, Any]) -> bool:
    """What check mode answers."""
    state: str = params["state"]
    apps: list[str] = params["apps"]
    if state == "reloaded":
        return True
    if state == "maintenance":
        shown, on = set(balancer.maintained()), bool(params["maintenance"])
        return any((app in shown) != on for app in wanted_apps(balancer, apps))
    if state in ("drained", "ready"):
        admin = balancer.admin()
        servers = balancer.servers()
        targets = [one for host in params["hosts"] for one in chosen(servers, host, apps)]
        flags = [admin[one.app, one.host] for one in targets]
        if state == "drained":
            return any(not flag & Admin.MAINTENANCE for flag in flags)
        return any(flag & OPERATOR for flag in flags)
    return False


def wanted_apps(balancer: Balancer, apps: list[str]) -> list[str]:
    """The apps named, or all. Raises BalancerError for one that the balancer does not serve."""
    known = sorted({one.app for one in balancer.servers()})
    unknown = sorted(set(apps) - set(known))
    if unknown:
        raise BalancerError(f"the balancer serves no app {', '.join(unknown)} (it serves {', '.join(known)})")
    return apps or known


def act(balancer: Balancer, params: dict[str, Any]) -> bool:
    """Bring about the state. True when something changed."""
    state = params["state"]
    apps, seconds = params["apps"], params["seconds"]
    if state == "drained":
        flags = {name: params[name] for name in ("wait", "cut", "last")}
        return bool(each(params["hosts"], lambda one: balancer.drain(one, apps, seconds=seconds, **flags)))
    if state == "ready":
        return bool(each(params["hosts"], lambda one: balancer.ready(one, apps, seconds=seconds)))
    if state == "maintenance":
        return bool(balancer.maintain(wanted_apps(balancer, params["apps"]), params["maintenance"]))
    if state == "reloaded":
        balancer.reload()
        return True
    return False


def main() -> None:
    module = AnsibleModule(
        argument_spec=SPEC,
        required_if=[
            ("state", "drained", ["hosts"]),
            ("state", "ready", ["hosts"]),
            ("state", "maintenance", ["maintenance"]),
        ],
        supports_check_mode=True,
    )
    params = module.params
    directory = Path(params["directory"])
    balancer = Balancer(Master(directory / "run/master.sock"), directory)
    try:
        changed = would_change(balancer, params) if module.check_mode else act(balancer, params)
        servers = balancer.servers()
        result: dict[str, Any] = {"changed": changed, "servers": [one.describe() for one in servers]}
        if params["state"] == "counters":
            result |= {"counters": counted(servers), "worker": balancer.workers()[0]}
        if params["state"] in ("status", "maintenance"):
            result["maintained"] = balancer.maintained()
        if params["state"] == "drained":
            result["notes"] = balancer.notes
        if params["state"] == "maintenance" and changed and not module.check_mode:
            shown = f"the page is shown for: {', '.join(result['maintained']) or 'no app'}"
            told = entry(params["run"] or {}, "maintenance", params["host"], Step.DONE, "done", reason=shown)
            if trouble := leave(Trail(), told):
                module.warn(trouble)
    except HostsError as error:
        module.fail_json(msg=str(error), trouble=error.trouble)
    except BalancerError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{directory}: {error}. Next: ansible-playbook playbooks/provision.yml -i <inventory>")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
