#!/usr/bin/python
"""Ansible module: one phase of a deploy of one app on one host."""

from __future__ import annotations

import shutil
import time

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.flotilla.engine import Engine
from ansible.module_utils.flotilla.release import RELEASE_ERRORS, Rollout
from ansible.module_utils.flotilla.settings import parse
from ansible.module_utils.flotilla.site import BusyError, Site, exclusive

DOCUMENTATION = r"""
module: flotilla_release
short_description: Run one phase of a deploy on a host
description:
  - Runs one phase of the two-phase deploy of one app on one host.
  - A phase that could not do its work is reported as a value (RV(ok) is false), not as a failed task, so that
    a play can judge all hosts together and abort them together. The module fails only on wrong arguments.
  - Every phase is safe to run again.
options:
  phase:
    description: The phase to run.
    type: str
    required: true
    choices: [admit, recover, prepare, commit, abort, finish, status]
  app:
    description: One entry of the inventory's C(apps), without its secrets.
    type: dict
    required: true
  secrets:
    description: Name to value. Written as files that the app's containers mount; never logged.
    type: dict
  host:
    description: The inventory's name of the host, for messages and the app's FLOTILLA_HOST.
    type: str
    required: true
  inventory:
    description: The inventory directory, for messages.
    type: str
    required: true
  release:
    description: The release's id, the same on all hosts.
    type: str
  bundle:
    description: The app's source, as the lookup C(flotilla_bundle) makes it (phases admit and prepare).
    type: str
  router_config:
    description: The rendered configuration of the release's router (phases admit and prepare).
    type: str
  router_image:
    description: The image of the router.
    type: str
  digests:
    description: Image as written to C(name@sha256:…), found by one host for all.
    type: dict
  find_digests:
    description: Whether this host asks the registries for the digests (phase admit).
    type: bool
    default: false
  migrate:
    description: Whether this host runs the release's migration (phase prepare).
    type: bool
    default: false
  allow_latest:
    description: Whether images without a tag, or with C(latest), are accepted.
    type: bool
    default: false
  memory_once_mb:
    description: MiB that other stacks of the host may use, by name.
    type: dict
  declared_swap_mb:
    description: MiB of swap that the role base makes.
    type: int
    default: 0
  https_port:
    description: The edge's HTTPS port on the host.
    type: int
    default: 443
  actor:
    description: Who deploys, for the history.
    type: str
    default: ''
  reason:
    description: Why the deploy is aborted, for the history.
    type: str
    default: ''
  started:
    description: When the deploy began, in seconds since the epoch.
    type: float
author: The Flotilla authors
"""

EXAMPLES = r"""
- name: Switch the edge to the new release
  flotilla_release:
    phase: commit
    app: "{{ app }}"
    host: "{{ inventory_hostname }}"
    inventory: inventories/staging
"""

RETURN = r"""
ok:
  description: Whether the phase did its work.
  type: bool
  returned: always
explanation:
  description: For a person, why it did not; several lines.
  type: str
  returned: when not ok
seconds:
  description: How long the phase took on the host.
  type: float
  returned: always
live:
  description: The release that serves; its id, colour and version.
  type: dict
  returned: phases admit, abort, finish and status
"""

READ_ONLY = ("admit", "status")
# What admit says of a host that has no engine yet, because its provisioning is a rehearsal too.
REHEARSED = {"live_images": {}, "unfinished": "", "matches": False, "digests": {}, "images": {}, "notes": []}


def main() -> None:
    """Arguments in, one phase, the answer out."""
    module = AnsibleModule(
        argument_spec={
            "phase": {
                "type": "str",
                "required": True,
                "choices": ["admit", "recover", "prepare", "commit", "abort", "finish", "status"],
            },
            "app": {"type": "dict", "required": True},
            "secrets": {"type": "dict", "no_log": True},
            "host": {"type": "str", "required": True},
            "inventory": {"type": "str", "required": True},
            "release": {"type": "str"},
            "bundle": {"type": "str", "no_log": True},
            "router_config": {"type": "str"},
            "router_image": {"type": "str"},
            "digests": {"type": "dict"},
            "find_digests": {"type": "bool", "default": False},
            "migrate": {"type": "bool", "default": False},
            "allow_latest": {"type": "bool", "default": False},
            "memory_once_mb": {"type": "dict"},
            "declared_swap_mb": {"type": "int", "default": 0},
            "https_port": {"type": "int", "default": 443},
            "actor": {"type": "str", "default": ""},
            "reason": {"type": "str", "default": ""},
            "started": {"type": "float"},
        },
        required_if=[
            ("phase", "admit", ("bundle", "router_config", "router_image")),
            ("phase", "prepare", ("bundle", "router_config", "router_image", "release", "digests")),
        ],
        supports_check_mode=True,
    )
    params = module.params
    began = time.monotonic()
    if module.check_mode and params["phase"] not in READ_ONLY:
        module.exit_json(changed=True, ok=True, seconds=0.0, msg=f"would run {params['phase']}")
    if module.check_mode and params["phase"] == "admit" and shutil.which("docker") is None:
        module.exit_json(changed=False, ok=True, seconds=0.0, msg="nothing to ask here yet", **REHEARSED)
    settings = parse(params)
    rollout = Rollout(Site(settings, Engine()))
    try:
        with exclusive(settings):
            match params["phase"]:
                case "admit":
                    answer = rollout.admit(
                        params["bundle"], params["router_config"], find_digests=params["find_digests"]
                    )
                case "recover":
                    answer = rollout.recover()
                case "prepare":
                    answer = rollout.prepare(
                        params["release"],
                        params["bundle"],
                        params["router_config"],
                        params["digests"],
                        migrate=params["migrate"],
                    )
                case "commit":
                    answer = rollout.commit()
                case "abort":
                    answer = rollout.abort(params["reason"])
                case "finish":
                    answer = rollout.finish(actor=params["actor"], started=params["started"] or time.time())
                case _:
                    answer = rollout.status()
    except (*RELEASE_ERRORS, BusyError) as error:
        module.exit_json(changed=False, ok=False, explanation=str(error), seconds=round(time.monotonic() - began, 2))
    module.exit_json(ok=True, seconds=round(time.monotonic() - began, 2), **{"changed": False, **answer})


if __name__ == "__main__":
    main()
