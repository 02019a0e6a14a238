#!/usr/bin/python
"""Ansible module: one phase of a deploy or a rollback of one app on one host."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.flotilla.admission import difference
from ansible.module_utils.flotilla.engine import Engine
from ansible.module_utils.flotilla.fleet import Step
from ansible.module_utils.flotilla.host import step_back, write_for_others
from ansible.module_utils.flotilla.release import RELEASE_ERRORS, Rollout
from ansible.module_utils.flotilla.run import parse_run
from ansible.module_utils.flotilla.settings import parse
from ansible.module_utils.flotilla.site import BusyError, Site, exclusive
from ansible.module_utils.flotilla.traffic import Limits
from ansible.module_utils.flotilla.window import Window

DOCUMENTATION = r"""
module: flotilla_release
short_description: Run one phase of a deploy, a rollback or a restart on a host
description:
  - Runs one phase of the two-phase deploy of one app on one host.
  - A phase that could not do its work is reported as a value (RV(ok) is false), not as a failed task, so that
    a play can judge all hosts together and abort them together. The module fails only on wrong arguments.
  - Every phase is safe to run again. All but C(admit), C(survey), C(status) and C(release) are refused unless the
    environment's lock is this run's; see O(run).
options:
  phase:
    description:
      - C(admit) checks a deploy, C(survey) what a rollback could go to, C(status) says what serves. They change nothing
        but, with O(take_lock), the lock.
      - C(lock) takes the lock, C(release) gives it back.
      - C(recover) ends what a crashed run left, as O(step) says.
      - C(prepare) brings a release up beside the live one, C(reactivate) one that is there already.
      - C(commit) switches to it and watches it for the O(window), C(watch) watches on.
      - C(finish) removes the old one, C(abort) the new one; C(amend) adds to the history.
    type: str
    required: true
    choices: [admit, survey, status, lock, release, recover, prepare, reactivate, commit, watch, finish, abort, amend]
  app:
    description: One entry of the inventory's C(apps), without its secrets.
    type: dict
    required: true
  secrets:
    description: Name to value. Written as files that the app's containers mount; never logged.
    type: dict
  reissue:
    description:
      - Name to new value of secrets that were rotated (phase C(reactivate)). Every release that is kept gets them, so
        that none comes back with a credential that is refused.
    type: dict
  host:
    description: The inventory's name of the host, for messages and the app's FLOTILLA_HOST.
    type: str
    required: true
  inventory:
    description: The inventory directory, for messages.
    type: str
    required: true
  run:
    description:
      - This run of the playbook, as C(flotilla_validate) says it, with C(token), C(owner), C(machine), C(process),
        C(actor), C(approved_by), C(started) (seconds since the epoch), C(arguments) (the inventories) and C(by), for
        the trail.
    type: dict
  heads:
    description: Host to number and hash of the last entry of its trail, for the trail of this one.
    type: dict
  action:
    description: What the run does, for the history.
    type: str
    choices: [deploy, rollback, restart]
    default: deploy
  purpose:
    description: What the lock is taken for, for those who do not get it.
    type: str
    default: ''
  take_lock:
    description: Whether to take the lock, in the phases C(admit) (when there is work) and C(survey).
    type: bool
    default: false
  superseded:
    description: Tokens of runs that are known to be dead; their locks are taken over.
    type: list
    elements: str
    default: []
  lease_seconds:
    description: How long the lock lasts from the beginning of this phase.
    type: float
    default: 120
  wait_seconds:
    description: How long to wait for another call that works on the app on this host.
    type: float
    default: 30
  release:
    description: The release's id, the same on all hosts.
    type: str
  step:
    description: What to do with an unfinished release (phase C(recover)).
    type: str
    choices: [forward, back]
    default: back
  bundle:
    description: The app's source, as the lookup C(flotilla_bundle) makes it (phases C(admit) and C(prepare)).
    type: str
  router_config:
    description: The rendered configuration of the release's router (phases C(admit) and C(prepare)).
    type: str
  router_image:
    description: The image of the router.
    type: str
  digests:
    description: Image as written to C(name@sha256:…), found by one host for all.
    type: dict
  find_digests:
    description: Whether this host asks the registries for the digests (phase C(admit)).
    type: bool
    default: false
  migrate:
    description: Whether this host runs the release's migration (phase C(prepare)).
    type: bool
    default: false
  restore_point:
    description: Name of the restore point of the database that was set before the migration (phase C(prepare)).
    type: str
    default: ''
  stop_first:
    description:
      - Whether the commit stops what serves before it boots the new release (phases C(prepare) and C(reactivate)). A
        balancer must have drained the host by then.
    type: bool
    default: false
  others_serve:
    description: Whether a balancer can send this host's traffic to other app hosts (phase C(admit)).
    type: bool
    default: false
  window:
    description:
      - How a committed release is watched, with C(seconds) (0 for not at all), C(failure_ratio) and C(p95_ms) (0 for no
        limit); phases C(commit) and C(watch).
    type: dict
  involved:
    description: On the controller; when false, this host is left alone and the result is that of O(before), skipped.
    type: bool
    default: true
  refused:
    description: On the controller; why the phase is not tried on this host, as a balancer says.
    type: str
    default: ''
  before:
    description: On the controller; what this host said in an earlier batch.
    type: dict
  delay_seconds:
    description: How long to wait before the switch (phase C(commit)).
    type: float
    default: 0
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
  outcome:
    description: What the fleet came to (phase C(amend)).
    type: str
    default: ''
  reason:
    description: Why the release is aborted, for the history.
    type: str
    default: ''
author: The Flotilla authors
"""

EXAMPLES = r"""
- name: Switch the edge to the new release
  flotilla_release:
    phase: commit
    app: "{{ app }}"
    host: "{{ inventory_hostname }}"
    inventory: inventories/staging
    run: "{{ run }}"
    window: {seconds: 10, failure_ratio: 0.01, p95_ms: 500}
"""

RETURN = r"""
ok:
  description: Whether the phase did its work.
  type: bool
  returned: always
phase:
  description: The phase.
  type: str
  returned: always
purpose:
  description: That of the run, as it was given.
  type: str
  returned: always
explanation:
  description: For a person, why it did not; several lines.
  type: str
  returned: when not ok
seconds:
  description: How long the phase took on the host.
  type: float
  returned: always
serves:
  description: The release that takes the traffic after the phase; its id, colour and version.
  type: dict
  returned: always, but in check mode
live:
  description: The release that the journal calls live; its id, colour and version.
  type: dict
  returned: phases admit, survey, abort, finish and status
lock:
  description: Who has the environment's lock, and what to do about it.
  type: dict
  returned: phases admit, survey, lock and status
trail:
  description: Number and hash of the last entry of the host's trail.
  type: list
  returned: all phases but lock, release and status
traffic:
  description: What was seen in the window; requests, probes among them, failed ones, 95th percentile in milliseconds.
  type: dict
  returned: phases commit and watch
"""

# They look, and touch nothing of the app: they need not wait for others.
LOOKING = ("admit", "survey", "status", "lock", "release")
READ_ONLY = ("admit", "survey", "status")
# What admit says of a host that has no engine yet, because its provisioning is a rehearsal too.
NOTHING = {"release": "", "colour": "", "version": ""}
REHEARSED = {
    "live": NOTHING,
    "live_images": {},
    "live_hardened": {},
    "hardened": {},
    "journal": {"phase": "idle", "live": "", "candidate": ""},
    "matches": False,
    "digests": {},
    "images": {},
    "update": {},
    "lock": {"held": False, "by": None, "message": "", "taken_over": ""},
    "notes": [],
}


def main() -> None:
    """Arguments in, one phase, the answer out."""
    module = AnsibleModule(
        argument_spec={
            "phase": {
                "type": "str",
                "required": True,
                "choices": [
                    *("admit", "survey", "status", "lock", "release", "recover", "prepare", "reactivate"),
                    *("commit", "watch", "finish", "abort", "amend"),
                ],
            },
            "app": {"type": "dict", "required": True},
            "secrets": {"type": "dict", "no_log": True},
            "reissue": {"type": "dict", "no_log": True},
            "host": {"type": "str", "required": True},
            "inventory": {"type": "str", "required": True},
            "run": {"type": "dict"},
            "heads": {"type": "dict"},
            "action": {"type": "str", "choices": ["deploy", "rollback", "restart"], "default": "deploy"},
            "purpose": {"type": "str", "default": ""},
            "take_lock": {"type": "bool", "default": False},
            "superseded": {"type": "list", "elements": "str", "default": []},
            "lease_seconds": {"type": "float", "default": 120},
            "wait_seconds": {"type": "float", "default": 30},
            "release": {"type": "str"},
            "step": {"type": "str", "choices": ["forward", "back"], "default": "back"},
            "bundle": {"type": "str", "no_log": True},
            "router_config": {"type": "str"},
            "router_image": {"type": "str"},
            "digests": {"type": "dict"},
            "find_digests": {"type": "bool", "default": False},
            "migrate": {"type": "bool", "default": False},
            "restore_point": {"type": "str", "default": ""},
            "stop_first": {"type": "bool", "default": False},
            "others_serve": {"type": "bool", "default": False},
            "window": {"type": "dict"},
            "involved": {"type": "bool", "default": True},
            "refused": {"type": "str", "default": ""},
            "before": {"type": "dict"},
            "delay_seconds": {"type": "float", "default": 0},
            "allow_latest": {"type": "bool", "default": False},
            "memory_once_mb": {"type": "dict"},
            "declared_swap_mb": {"type": "int", "default": 0},
            "https_port": {"type": "int", "default": 443},
            "outcome": {"type": "str", "default": ""},
            "reason": {"type": "str", "default": ""},
        },
        required_if=[
            ("phase", "admit", ("bundle", "router_config", "router_image")),
            ("phase", "prepare", ("bundle", "router_config", "router_image", "release", "digests")),
            ("phase", "reactivate", ("release",)),
            ("phase", "watch", ("window",)),
        ],
        supports_check_mode=True,
    )
    step_back()
    write_for_others()
    params = module.params
    phase, began = params["phase"], time.monotonic()
    about = {"phase": phase, "purpose": params["purpose"]}
    if module.check_mode:
        params["take_lock"] = False
        if phase not in READ_ONLY:
            module.exit_json(changed=True, ok=True, seconds=0.0, msg=f"would run {phase}", **about)
        if phase == "admit" and shutil.which("docker") is None:
            module.exit_json(changed=False, ok=True, seconds=0.0, msg="nothing to ask here yet", **about, **REHEARSED)
    settings = parse(params)
    site = Site(settings, Engine(), parse_run(params))
    answer: dict[str, Any]
    try:
        alone = nullcontext() if phase in LOOKING else exclusive(settings, wait_seconds=params["wait_seconds"])
        with alone:
            answer = {"ok": True, **run(Rollout(site), params)}
    except (*RELEASE_ERRORS, BusyError) as error:
        answer = {"ok": False, "explanation": str(error) or type(error).__name__}
        if phase == "prepare" and (record := site.store.read(params["release"])):
            answer["migration"] = record.migration
    if module.check_mode and phase == "admit" and answer["ok"] and (changes := difference(answer, settings.version)):
        answer |= {"changed": True, "diff": changes}
    if unrecorded := answer.pop("unrecorded", ""):
        module.warn(f"{params['host']}: {unrecorded}. It is done all the same, and {params['host']} has no entry of it")
    if phase not in ("lock", "release", "status"):
        answer["trail"] = site.trail.head()
    seconds = round(time.monotonic() - began, 2)
    module.exit_json(**{"changed": False, **about, "seconds": seconds, "serves": site.serving(), **answer})


def run(rollout: Rollout, params: Mapping[str, Any]) -> dict[str, Any]:
    """One phase, by its name."""
    answer: dict[str, Any]
    match params["phase"]:
        case "admit":
            answer = rollout.admit(
                params["bundle"],
                params["router_config"],
                find_digests=params["find_digests"],
                take_lock=params["take_lock"],
            )
        case "survey":
            answer = rollout.survey(take_lock=params["take_lock"])
        case "lock":
            answer = rollout.lock()
        case "release":
            answer = rollout.release()
        case "recover":
            answer = rollout.recover(Step(params["step"]), params["reason"] or "an earlier run was cut short")
        case "prepare":
            answer = rollout.prepare(
                params["release"],
                params["bundle"],
                params["router_config"],
                params["digests"],
                migrate=params["migrate"],
                stop_first=params["stop_first"],
                restore_point=params["restore_point"],
            )
        case "reactivate":
            answer = rollout.reactivate(params["release"], stop_first=params["stop_first"], reissue=params["reissue"])
        case "commit":
            answer = rollout.commit(window_of(params), delay_seconds=params["delay_seconds"])
        case "watch":
            answer = rollout.watch(window_of(params) or Window(0.0, Limits(1.0, 0.0)))
        case "finish":
            answer = rollout.finish()
        case "abort":
            answer = rollout.abort(params["reason"])
        case "amend":
            answer = rollout.amend(params["outcome"], params["reason"])
        case _:
            answer = rollout.status()
    return answer


def window_of(params: Mapping[str, Any]) -> Window | None:
    """The monitor window, or None for none."""
    window = params["window"] or {}
    seconds = float(window.get("seconds", 0.0))
    limits = Limits(float(window.get("failure_ratio", 0.0)), float(window.get("p95_ms", 0.0)) / 1000)
    return Window(seconds, limits) if seconds > 0 else None


if __name__ == "__main__":
    main()
