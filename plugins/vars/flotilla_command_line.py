# MIT License, see LICENSE at the root of the project.
"""No variables: it refuses templates among those of the command line, before anything could work them out."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ansible import context
from ansible.errors import AnsibleError
from ansible.parsing.splitter import parse_kv
from ansible.parsing.utils.yaml import from_yaml
from ansible.plugins.vars import BaseVarsPlugin

sys.path.append(str(Path(__file__).resolve().parents[1] / "module_utils"))

from flotilla.terminal import visible

DOCUMENTATION = r"""
name: flotilla_command_line
short_description: Refuses templates among the variables of the command line
description:
  - Ansible works out C({{ … }}) in what C(-e) gives, on this machine and with the vault at hand. C(-e version=$TAG)
    would run what somebody has called a tag. Such a value is refused; a file (C(-e @file)) may have templates.
extends_documentation_fragment:
  - vars_plugin_staging
options: {}
author:
  - Flotilla contributors (@flotilla)
"""

# Jinja's own, which Ansible cannot be told to change for the command line.
OPENING = ("{{", "{%", "{#")


class VarsModule(BaseVarsPlugin):
    """Asked for the first host before its first task."""

    REQUIRES_ENABLED = True
    is_stateless = True

    def get_vars(self, loader: Any, path: str, entities: Any, cache: bool = True) -> dict[str, Any]:
        """Nothing. Raises AnsibleError."""
        for name in (name for given in context.CLIARGS.get("extra_vars") or () for name in templates(given)):
            raise AnsibleError(
                f"command line: {visible(name)}: is a template, and this machine would run it. "
                "Next: see where the value is from; what is meant as one stands in a file: -e @<file>"
            )
        return {}


@cache
def templates(given: str) -> tuple[str, ...]:
    """The variables with a template in an argument of `-e`; none of a file's."""
    if given.startswith("@"):
        return ()
    found = from_yaml(given) if given[:1] in ("{", "[") else parse_kv(given)
    named = found.items() if isinstance(found, Mapping) else [("-e", found)]
    return tuple(
        str(name) for name, value in named if any(opening in text for opening in OPENING for text in _in(value))
    )


def _in(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield from (text for pair in value.items() for item in pair for text in _in(item))
    elif isinstance(value, list):
        yield from (text for item in value for text in _in(item))
    else:
        yield str(value)
