"""The table of Compose's keys against the specification's schema, and the reference against table and privileges."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from flotilla.resolve.keys import KEPT, KEYS, SERVICE_KEYS, TOP_LEVEL, Fate, markdown
from flotilla.resolve.privileges import NAMED, WORDS, valid

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((Path(__file__).parent / "compose_schema/compose-spec.json").read_text())
REFERENCE = (ROOT / "docs/reference/compose-keys.md").read_text()

# The privileges that a remark begins with.
FIRST = re.compile(r"(?:(?:, | or )?`[^`]+`)+")


def keys_of(node: Any, path: str, schema: dict[str, Any], within: tuple[str, ...] = ()) -> Iterator[str]:
    """Each key that a schema names, as the table writes it: `*` for any name, `[]` for an entry of a list."""
    if not isinstance(node, dict):
        return
    if "$ref" in node:
        name = node["$ref"].rpartition("/")[2]
        if name not in within:
            yield from keys_of(schema["$defs"][name], path, schema, (*within, name))
    for key, value in node.get("properties", {}).items():
        below = f"{path}.{key}" if path else key
        yield below
        yield from keys_of(value, below, schema, within)
    for pattern, value in node.get("patternProperties", {}).items():
        if pattern != "^x-":
            yield from keys_of(value, f"{path}.*", schema, within)
    yield from keys_of(node.get("additionalProperties"), f"{path}.*", schema, within)
    yield from keys_of(node.get("items"), f"{path}[]", schema, within)
    for several in ("oneOf", "anyOf", "allOf"):
        for value in node.get(several, ()):
            yield from keys_of(value, path, schema, within)


def lacking(schema: dict[str, Any]) -> set[str]:
    """The schema's keys that the table does not have, nor a key above that is left out or refused."""
    gone = tuple(
        f"{key}{end}" for key, rule in KEYS.items() if rule.fate in (Fate.LEFT_OUT, Fate.REFUSED) for end in ".["
    )
    return {key for key in keys_of(schema, "", schema) if key not in KEYS and not key.startswith(gone)}


def test_the_table_has_every_key_of_the_schema() -> None:
    assert lacking(SCHEMA) == set()


def test_the_table_has_no_key_that_the_schema_has_not() -> None:
    assert set(KEYS) - set(keys_of(SCHEMA, "", SCHEMA)) == set()


@pytest.mark.parametrize(
    "where", ["service", "volume", "network", "config", "service_hook", "healthcheck", "deployment"]
)
def test_a_key_of_tomorrow_is_missed(where: str) -> None:
    schema = json.loads(json.dumps(SCHEMA))
    schema["$defs"][where]["properties"]["tomorrow"] = {"type": "string"}
    assert {key.rpartition(".")[2] for key in lacking(schema)} == {"tomorrow"}


def test_what_a_release_keeps_was_seen_to_be_harmless_or_allowed() -> None:
    assert {KEYS[f"services.*.{key}"].fate for key in KEPT} == {Fate.PASSES, Fate.PRIVILEGE}
    assert KEPT < SERVICE_KEYS
    assert "services" in TOP_LEVEL


def test_a_privilege_that_the_table_names_is_one() -> None:
    firsts = [FIRST.match(rule.remark) for rule in KEYS.values() if rule.fate is Fate.PRIVILEGE]
    named = {word for first in firsts if first for word in re.findall(r"`(\w+)", first[0])}
    assert len(named) > 20
    assert named - set(WORDS) - set(NAMED) == set()
    assert all(valid(word) for word in WORDS)


def test_the_reference_has_the_table_as_it_is() -> None:
    assert markdown() in REFERENCE


def test_the_reference_has_every_privilege() -> None:
    for word, what in {**WORDS, **NAMED}.items():
        shown = f"{word}:…" if word in NAMED else word
        assert f"| `{shown}` | {what} |" in REFERENCE


def test_the_reference_s_example_is_valid() -> None:
    (example,) = re.findall(r"```yaml\n(    privileges:.*?)```", REFERENCE, re.DOTALL)
    privileges = yaml.safe_load(example)["privileges"]
    assert all(isinstance(item, str) and valid(item) for items in privileges.values() for item in items)
