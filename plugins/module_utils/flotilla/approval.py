"""Who may run what on which hosts: approval where the environment demands it, and hosts that are left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .problem import Problem, did_you_mean


@dataclass(frozen=True)
class Approval:
    """Whether a run must be approved, and what is missing.

    question: to be put at a terminal, `answer` is what approves; empty when the command line has approved already.
    refusal: what is said where nobody can be asked.
    """

    needed: bool = False
    problems: tuple[Problem, ...] = ()
    question: str = ""
    answer: str = ""
    refusal: Problem | None = None


def approval(
    *,
    needed: bool,
    environment: str,
    apps: Sequence[str],
    extra: Mapping[str, Any],
    variable: str,
    command: str,
) -> Approval:
    """Judge the command line of a run that may need approval.

    apps: `name version` of what is run.  extra: the command line's variables.  variable: `version` of a deploy,
    `release` of a rollback, which `approve` must repeat.
    """
    if not needed:
        return Approval()
    named, repeated = extra.get(variable), extra.get("approve")
    again = f"{command} -e {variable}=<{variable}> -e approve=<the same>"
    if repeated is None:
        what = f"`{environment}` demands that a run is approved (environment_approval), and nobody can be asked here"
        question = (
            f"{', '.join(apps)} in the environment {environment}. Type {environment} and press enter to approve: "
        )
        return Approval(True, (), question, environment, Problem("command line", "approve", what, again))
    if named is None:
        what = f"is given, but no `{variable}`: what is approved is named twice"
        return Approval(True, (Problem("command line", "approve", what, again),))
    if str(named) != str(repeated):
        what = f"is `{repeated}`, and `{variable}` is `{named}`: what is approved is named twice"
        return Approval(True, (Problem("command line", "approve", what, again),))
    return Approval(True)


def host_choice_problems(
    groups: Mapping[str, Sequence[str]],
    present: Iterable[str],
    skipped: str | Iterable[str],
    *,
    limited: bool,
    command: str,
) -> list[Problem]:
    """Hosts that are left out: on purpose with `skip_hosts`, and never some of the app hosts with `--limit`."""
    everybody = sorted({host for hosts in groups.values() for host in hosts})
    left_out = [part.strip() for part in (skipped.split(",") if isinstance(skipped, str) else skipped) if part.strip()]
    problems = [
        Problem("command line", "skip_hosts", f"there is no host `{host}`{did_you_mean(host, everybody)}", "correct it")
        for host in left_out
        if host not in everybody
    ]
    app = list(groups.get("app", ()))
    if app and set(app) <= set(left_out):
        what = "leaves out every host of the group `app`"
        problems.append(Problem("command line", "skip_hosts", what, "leave at least one in"))
    missing = sorted(set(app) - set(present) - set(left_out)) if limited else []
    if missing:
        what = f"leaves out {', '.join(missing)}: the app hosts of an environment serve one release"
        fix = f"leave --limit away; for hosts that are down: {command} -e skip_hosts={','.join(missing)}"
        problems.append(Problem("command line", "--limit", what, fix))
    return problems
