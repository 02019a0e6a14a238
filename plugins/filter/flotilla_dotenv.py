"""The filter `flotilla_dotenv`: a dictionary as the text of a `.env` file that Docker Compose reads back unchanged."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from ansible.errors import AnsibleFilterError

sys.path.append(str(Path(__file__).resolve().parents[1] / "module_utils"))
from flotilla import dotenv

DOCUMENTATION = r"""
name: flotilla_dotenv
short_description: Write a dictionary as a .env file of Docker Compose
description:
  - Quotes each value so that dollars, quotes, backslashes, spaces, C(#) and newlines survive.
  - Fails for names that are no variable names, for C(COMPOSE_*) and C(DOCKER_*), and for values that are neither
    text nor numbers.
positional: _input
options:
  _input:
    description: Variable names and their values.
    type: dict
    required: true
"""

EXAMPLES = r"""
content: "{{ {'POSTGRES_MEMORY': '512m', 'POSTGRES_CPUS': 1.5} | flotilla_dotenv }}"
"""

RETURN = r"""
_value:
  description: The file's text, one line a variable, in the dictionary's order.
  type: str
"""


def flotilla_dotenv(values: Mapping[str, dotenv.Value]) -> str:
    """Return the text of the `.env` file that holds values."""
    if not isinstance(values, Mapping):
        raise AnsibleFilterError(f"flotilla_dotenv takes a dictionary, not a {type(values).__name__}")
    try:
        return dotenv.dump(values)
    except dotenv.DotenvError as error:
        raise AnsibleFilterError(f"flotilla_dotenv: {error}") from error


class FilterModule:
    """Registers the filter."""

    def filters(self) -> dict[str, Callable[..., str]]:
        return {"flotilla_dotenv": flotilla_dotenv}
