"""Write the `.env` files that Docker Compose reads.

Compose's parser (compose-go, `dotenv/parser.go`; quoting is the same in v2.0.2, which Compose 2.26 uses, and in
v2.13.0) interpolates unquoted and double-quoted values: an unquoted `pa$word` becomes `pa` with only a
warning. Two forms of it carry every text:

- single quotes, in which all but `'` and a backslash stands for itself;
- double quotes, in which `\\\\`, `\\"`, `\\n` and `\\r` are escapes and `$$` is one dollar.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

# Compose takes its own options from here (COMPOSE_FILE, COMPOSE_PROJECT_NAME, ...), and older versions export
# the rest to themselves, where the client obeys DOCKER_HOST and its like.
RESERVED_PREFIXES = ("COMPOSE_", "DOCKER_")

Value = str | int | float


class DotenvError(ValueError):
    """A key or a value that a `.env` file cannot or must not hold. The message names the key, never the value."""


def quote(value: str) -> str:
    """Return value in the form that Compose reads back unchanged."""
    if not any(char in value for char in "'\\\n\r"):
        return f"'{value}'"
    escaped = (
        value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$").replace("\n", "\\n").replace("\r", "\\r")
    )
    return f'"{escaped}"'


def line(key: str, value: Value) -> str:
    """Return one `KEY=value` line, without its newline.

    Raises DotenvError for a key that is no variable name or that Compose keeps for itself, for a value that is
    neither text nor number, and for text that no environment can carry (NUL, lone surrogates).
    """
    if KEY.fullmatch(key) is None:
        raise DotenvError(f"{key!r} is not a variable name: use letters, digits and '_', no digit first")
    if key.upper().startswith(RESERVED_PREFIXES):
        raise DotenvError(f"{key} is Docker Compose's own variable: choose another name")
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise DotenvError(f"{key} is a {type(value).__name__}: write it as text in quotes, or as a number")
    text = str(value)
    if "\0" in text:
        raise DotenvError(f"{key} holds a NUL byte, which no environment variable can")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise DotenvError(f"{key} is not valid Unicode text") from None
    return f"{key}={quote(text)}"


def dump(values: Mapping[str, Value]) -> str:
    """Return the whole file, one line a key in the mapping's order, ending with a newline unless empty."""
    return "".join(f"{line(key, value)}\n" for key, value in values.items())
