"""Secrets as variables, for programs that cannot read a file.

A variable of a container shows in `docker inspect`. So a shell, which becomes the program, makes it from the file below
/run/secrets when the container starts: the value is in the process's environment and nowhere else.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from ..problem import did_you_mean
from .findings import Findings
from .model import Context
from .values import escape

# A dot keeps the newlines at the end, which `$(…)` would take away.
_LINE = '{variable}=$(cat {path} && echo .) && export {variable}="${{{variable}%.}}"'


def variable_of(secret: str) -> str:
    """The variable of a secret: `database-url` → `DATABASE_URL`, as in the `${…}` of a Compose file."""
    return secret.upper().replace("-", "_")


def check(services: Mapping[str, Any], context: Context, findings: Findings) -> None:
    """`apps[…].secret_variables`: services and secrets that there are."""
    known = ", ".join(sorted(context.secrets)) or "(none)"
    for name, secrets in sorted(context.secret_variables.items()):
        if name not in services:
            findings.unknown_service(f"secret_variables.{name}", name, services)
        for index, secret in enumerate(secrets):
            if secret not in context.secrets:
                findings.refuse_inventory(
                    f"secret_variables.{name}[{index}]",
                    f"the app has no secret `{secret}`{did_you_mean(secret, context.secrets)}",
                    f"name one of {known}, or add it to apps[{context.app}].secrets",
                )


def as_files(name: str, service: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """The service with the files that its variables are made from, and without these variables in its `environment`."""
    secrets = [secret for secret in context.secret_variables.get(name, ()) if secret in context.secrets]
    if not secrets:
        return dict(service)
    variables = {variable_of(secret) for secret in secrets}
    stated = service.get("secrets") or ()
    mounted = {entry["source"] for entry in stated}
    return {
        **service,
        "environment": {
            key: value for key, value in (service.get("environment") or {}).items() if key not in variables
        },
        "secrets": [*stated, *({"source": secret} for secret in secrets if secret not in mounted)],
    }


def paths(name: str, service: Mapping[str, Any], context: Context) -> dict[str, str]:
    """Variable → the file in the container that holds its value. `service`: with its secrets resolved."""
    targets = {entry["source"]: str(entry["target"]) for entry in service.get("secrets") or ()}
    return {
        variable_of(secret): targets[secret] if targets[secret].startswith("/") else f"/run/secrets/{targets[secret]}"
        for secret in context.secret_variables.get(name, ())
        if secret in targets
    }


def started_with(service: Mapping[str, Any], variables: Mapping[str, str], image: Mapping[str, Any]) -> dict[str, Any]:
    """The service with a shell before its program that makes the variables and becomes the program.

    image: the configuration of the service's image; its ENTRYPOINT and CMD count where the file is silent.
    """
    entrypoint: Sequence[str] | None = service.get("entrypoint")
    command: Sequence[str] | None = service.get("command")
    if entrypoint is None:
        entrypoint = escape(list(image.get("Entrypoint") or ()))
        command = escape(list(image.get("Cmd") or ())) if command is None else command
    lines = [_LINE.format(variable=variable, path=shlex.quote(path)) for variable, path in sorted(variables.items())]
    script = " && ".join([*lines, 'exec "$@"'])
    kept = {key: value for key, value in service.items() if key != "command"}
    return {**kept, "entrypoint": ["/bin/sh", "-c", escape(script), "sh", *entrypoint, *(command or ())]}
