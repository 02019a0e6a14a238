"""The how-to about an existing app shows the files that the end-to-end test deploys."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/how-to/deploy-an-existing-app.md"
FILES = ROOT / "tests/e2e/foreign_app"
BLOCKS = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)]


@pytest.mark.parametrize(
    ("file", "keys"),
    [
        ("compose/app/compose.yaml", None),
        ("inventories/staging/group_vars/all/apps.yml", None),
        ("inventories/staging/group_vars/all/postgres.yml", ["postgres_databases"]),
    ],
)
def test_the_page_shows_what_is_deployed(file: str, keys: list[str] | None) -> None:
    content = yaml.safe_load((FILES / file).read_text())
    assert {key: content[key] for key in keys or content} in BLOCKS
