"""No container is sent a signal by the engine, which would leave it down after a reboot: stopped by hand, it thinks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SIGNAL = re.compile(r"docker(\s+compose)?\s+kill\b|/containers/[^\s\"']*/kill\b|\bcommunity\.docker\..*\bkill")


def places() -> list[Path]:
    found = [path for top in ("roles", "playbooks", "plugins", "compose") for path in (ROOT / top).rglob("*")]
    return [path for path in found if path.is_file() and not {"molecule", "__pycache__"} & set(path.parts)]


def test_nothing_that_ships_lets_the_engine_send_a_signal() -> None:
    texts = {path.relative_to(ROOT): path.read_text(errors="replace") for path in places()}
    assert len(texts) > 100
    assert [str(path) for path, text in texts.items() if SIGNAL.search(text)] == []


@pytest.mark.parametrize(
    "text", ["docker kill --signal HUP nginx", "docker compose kill -s USR1 api", "/containers/nginx/kill"]
)
def test_a_new_place_is_found(text: str) -> None:
    assert SIGNAL.search(text)
