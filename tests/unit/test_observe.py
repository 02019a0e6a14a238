"""The read-only account's program: what it takes for a request, and what it shows."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from flotilla.inspection import passwordless
from hypothesis import given
from hypothesis import strategies as st

SCRIPT = Path(__file__).resolve().parents[2] / "plugins/scripts/flotilla_observe.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("flotilla_observe", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


observe = load()


@pytest.mark.parametrize(
    ("text", "request_"),
    [
        ("", ("help", "", "", 20)),
        ("status", ("status", "", "", 20)),
        ("history", ("history", "", "", 20)),
        ("history shop 5", ("history", "shop", "", 5)),
        ("logs shop", ("logs", "shop", "", 20)),
        ("logs shop api 9999", ("logs", "shop", "api", 1000)),
        ("who 3", ("who", "", "", 3)),
    ],
)
def test_what_may_be_asked_for(text: str, request_: tuple[str, str, str, int]) -> None:
    assert observe.parse(text) == observe.Request(*request_)


@pytest.mark.parametrize(
    "text",
    [
        "id",
        "sh -c id",
        "status; id",
        "status && id",
        "status shop",
        "logs",
        "logs ../flotilla",
        "logs --follow",
        "logs shop api extra",
        "logs shop 'a b'",
        "logs shop -1",
        "history /etc/shadow",
        "history shop\nid",
        "logs shöp",
        "logs 'unended",
        "scp -t /tmp",
        "internal-sftp",
    ],
)
def test_everything_else_is_refused(text: str) -> None:
    with pytest.raises(observe.RefusedError):
        observe.parse(text)


@given(st.text())
def test_whatever_is_asked_for_nothing_but_names_gets_through(text: str) -> None:
    try:
        found = observe.parse(text)
    except observe.RefusedError:
        return
    assert found.verb in ("help", "status", "history", "logs", "who")
    for word in (found.app, found.service):
        assert word == "" or observe.NAME.fullmatch(word)
    assert 1 <= found.lines <= observe.MOST_LINES


@given(st.text())
def test_any_file_can_be_shown(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    root = tmp_path_factory.mktemp("opt")
    (root / "shop").mkdir()
    for name in ("state.json", "history.jsonl"):
        (root / "shop" / name).write_text(text, errors="surrogatepass")
    assert isinstance(observe.Host(root).answer(observe.parse("history")), list)


def test_history_and_who_are_shown(tmp_path: Path) -> None:
    for name in ("shop", "flotilla"):
        (tmp_path / name).mkdir()
    (tmp_path / "shop/state.json").write_text("{}")
    (tmp_path / "shop/history.jsonl").write_text('{"when": "T", "outcome": "deployed", "version": "1"}\nbroken\n')
    entry = {"time": "T", "verb": "exec", "by": {"operator": "ada@x", "commit": "c" * 40}}
    (tmp_path / "flotilla/trail.jsonl").write_text(json.dumps(entry) + "\n")
    host = observe.Host(tmp_path)
    assert host.answer(observe.parse("history")) == ["shop  T  deployed  1"]
    assert host.answer(observe.parse("who")) == [f"T  exec  by ada@x ({'c' * 12})"]
    assert host.answer(observe.parse("status")) == ["shop: nothing serves"]
    with pytest.raises(observe.RefusedError, match="there is no app 'other'"):
        host.answer(observe.parse("history other"))


def test_who_may_become_root_without_a_password() -> None:
    rules = ["# x NOPASSWD", "Defaults !authenticate", "debian ALL=(ALL) NOPASSWD:ALL", "%ops ALL=\\\n  NOPASSWD: ALL"]
    text = "\n".join([*rules, "b ALL=(ALL) ALL", ""])
    assert passwordless(text) == ["%ops", "debian"]


@given(st.text())
def test_any_text_can_be_sudoers(text: str) -> None:
    assert isinstance(passwordless(text), list)
