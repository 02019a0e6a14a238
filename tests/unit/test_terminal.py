"""What strangers write does not command a terminal, neither from a playbook's output nor from a host's program."""

from __future__ import annotations

import ast
import json
import os
import pty
import re
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from flotilla.display.live import StatusLine
from flotilla.terminal import visible
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(__file__).parent / "callback_data"
CLIPBOARD = "\x1b]52;c;cm0gLXJm\x07"
# Colours of ours, the status line, and what ends a line.
OURS = re.compile(r"\x1b\[[0-9;]*m|\r\x1b\[J|\x1b\[1A\r|\r?\n")
BIDIRECTIONAL = {"RLO", "LRO", "RLE", "LRE", "PDF", "RLI", "LRI", "FSI", "PDI"}


def obeyed(text: str) -> list[str]:
    """What a terminal would do something with, or a reader could not tell."""
    marks = "\u061c\u200e\u200f\u2028\u2029"
    return [
        letter
        for letter in text
        if (unicodedata.category(letter) in ("Cc", "Cs") and letter not in "\t\n")
        or unicodedata.bidirectional(letter) in BIDIRECTIONAL
        or letter in marks
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (CLIPBOARD, r"\x1b]52;c;cm0gLXJm\x07"),
        ("\x1b[2J\x1b[H", r"\x1b[2J\x1b[H"),
        ("\x9b2J", r"\x9b2J"),
        ("failed\rnotes 1.1.0: deployed", r"failed\rnotes 1.1.0: deployed"),
        ("failed\nnotes 1.1.0: deployed", r"failed\nnotes 1.1.0: deployed"),
        ("\u202edeyolped\u202c", r"\u202edeyolped\u202c"),
        ("\u2066a\u2069\u200f\u061c", r"\u2066a\u2069\u200f\u061c"),
        ("\ud800", r"\ud800"),
        ("a\tb: Ärger, 東京, 👍🏽, עברית", "a\tb: Ärger, 東京, 👍🏽, עברית"),
    ],
)
def test_what_a_terminal_obeys_is_written_out(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text(st.characters()))
def test_any_text_can_be_shown(text: str) -> None:
    shown = visible(text, lines=True)
    assert not obeyed(shown)
    assert visible(shown, lines=True) == shown
    assert shown.count("\n") == text.count("\n")
    assert "\n" not in visible(text)
    shown.encode()


def ansible(directory: Path, *arguments: str, **settings: str) -> list[str]:
    """The lines that a playbook of hostile texts leaves at a terminal, colours and status line taken away."""
    program = str(Path(sys.executable).with_name("ansible-playbook"))
    command = [program, "-i", str(DATA / "hosts.yml"), str(DATA / "strangers.yml"), "-e", f"directory={directory}"]
    keyboard, screen = pty.openpty()
    unset = ("NO_COLOR", "ANSIBLE_NOCOLOR")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    with subprocess.Popen(
        [*command, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=screen,
        stderr=screen,
        env={**environment, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "TERM": "xterm", "COLUMNS": "100", **settings},
        cwd=DATA,
    ):
        os.close(screen)
        parts = []
        while True:
            try:
                parts.append(os.read(keyboard, 4096))
            except OSError:  # the other end is closed
                break
        os.close(keyboard)
    return OURS.sub("\n", b"".join(parts).decode()).split("\n")


@pytest.mark.parametrize("arguments", [(), ("-v",), ("-vvv",), ("--diff",), ("--check", "--diff")])
def test_no_playbook_s_output_commands_a_terminal(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    lines = ansible(tmp_path, *arguments)
    assert sum(r"\x1b]52;c;cm0gLXJm\x07" in line for line in lines) >= 5
    assert [line for line in lines if obeyed(line)] == []
    assert [line for line in lines if line.strip().startswith("notes 1.1.0: deployed") and line[:4].strip()] == []


@pytest.mark.parametrize("arguments", [(), ("-vvv",), ("--check", "--diff")])
@pytest.mark.parametrize("form", ["json", "yaml"])
def test_nor_does_ansible_s_own_output(tmp_path: Path, arguments: tuple[str, ...], form: str) -> None:
    lines = ansible(tmp_path, *arguments, ANSIBLE_STDOUT_CALLBACK="default", ANSIBLE_CALLBACK_RESULT_FORMAT=form)
    assert any(r"\x1b]52;c;cm0gLXJm\x07" in line for line in lines)
    assert [line for line in lines if obeyed(line)] == []


def test_the_status_line_has_nothing_of_a_name(tmp_path: Path) -> None:
    path = tmp_path / "screen"
    with path.open("wb") as screen:
        StatusLine(screen.fileno(), True, lambda: 80).draw(f"app {CLIPBOARD}\r\u202e")
    assert not obeyed(OURS.sub("", path.read_bytes().decode()))


def script(name: str, *arguments: str, code: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """A program of a host with this tree's `flotilla` in place of the installed one; `code` runs before its `main`."""
    loading = (
        f"import sys; sys.path[:0] = [{str(ROOT / 'plugins/module_utils')!r}, {str(ROOT / 'plugins')!r}]\n"
        f"import scripts.{name} as program\n{code}\n"
        f"sys.exit(program.main({repr(list(arguments)) if arguments else ''}))"
    )
    changed = {**os.environ, "PYTHONIOENCODING": "utf-8", **environment}
    return subprocess.run(
        [sys.executable, "-c", loading], env=changed, capture_output=True, encoding="utf-8", errors="surrogateescape"
    )


EVIL = f"{CLIPBOARD}\x1b[2J\u202e\x9b2J\rforged: deployed"


@pytest.mark.parametrize("asked", ["history", "logs shop", "who", "status", f"status {EVIL}", f"'{EVIL}'"])
def test_the_observer_shows_no_escape_of_a_stranger(tmp_path: Path, asked: str) -> None:
    for name in ("shop", "flotilla"):
        (tmp_path / name).mkdir()
    live = {"live": {"release": EVIL, "colour": "blue"}}
    (tmp_path / "shop/state.json").write_text(json.dumps(live))
    entry = json.dumps({"when": "T", "outcome": f"{EVIL}\nshop: 2 serves", "by": {"operator": EVIL}})
    (tmp_path / "shop/history.jsonl").write_text(entry + "\n")
    (tmp_path / "flotilla/trail.jsonl").write_text(entry + "\n")
    docker = tmp_path / "docker"
    docker.write_text(f"#!/bin/sh\nif [ $1 = ps ]; then echo shop-api-1 1; else printf %s '{EVIL}'; fi\n")
    docker.chmod(0o755)
    code = f"program.DOCKER = {str(docker)!r}\n"
    code += f"host = program.Host(program.Path({str(tmp_path)!r})); program.Host = lambda: host"
    done = script("flotilla_observe", code=code, SSH_ORIGINAL_COMMAND=asked)
    shown = done.stdout + done.stderr
    assert r"\x1b]52" in shown
    assert not obeyed(shown)
    assert not [line for line in shown.splitlines() if line.startswith(("forged", "shop: 2"))]


@pytest.mark.parametrize(
    ("name", "arguments", "raised"),
    [
        ("flotilla_backup", ("status",), "program.BackupError"),
        ("flotilla_volumes", ("status",), "program.VolumeError"),
        ("postgres_restore", ("scratch-remove",), "program.RestoreError"),
        ("postgres_upgrade", ("confirm",), "program.RestoreError"),
        ("acme_renewal", ("status",), "ValueError"),
    ],
)
def test_no_error_of_a_program_commands_a_terminal(name: str, arguments: tuple[str, ...], raised: str) -> None:
    code = f"def fail(*_, **__): raise {raised}({EVIL!r})\n"
    code += "for found in ('answer', 'status', 'Keeper'):\n    setattr(program, found, fail)"
    done = script(name, *arguments, code=code)
    assert done.returncode
    assert r"\x1b]52" in done.stderr
    assert not obeyed(done.stdout + done.stderr)


# -- that nothing new goes past it -----------------------------------------------------------------------------------

SHOWING = {"print", "display", "warning", "error", "prompt_until", "prompt", "banner", "deprecated", "v", "vv", "vvv"}
STREAMS = {"stdout", "stderr"}
# `json.dumps` escapes what is not ASCII and all of C0; `Painted.of` is a line of the callback's.
SAFE = {"visible", "json.dumps", "Painted.of"}
# `file: text of the call` → why it needs none.
ALLOWED = {
    "plugins/module_utils/flotilla/display/live.py: "
    "os.write(self.descriptor, text.encode('utf-8', errors='replace'))": "the status line, made visible by `draw`",
}


def safe(node: ast.expr) -> bool:
    """Whether a text is ours, or was made visible."""
    match node:
        case ast.Constant():
            return True
        case ast.Name(id="USAGE" | "__doc__"):
            return True
        case ast.JoinedStr(values=values):
            return all(safe(part.value) for part in values if isinstance(part, ast.FormattedValue))
        case ast.BoolOp(values=values):
            return all(map(safe, values))
        case ast.IfExp(body=body, orelse=other):
            return safe(body) and safe(other)
        case ast.Attribute(attr="__name__"):
            return True
        case ast.Call(func=called):
            return ast.unparse(called) in SAFE
    return False


def shown_in(tree: ast.AST) -> Iterator[ast.Call]:
    """The calls that show something to people."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        match node.func:
            case ast.Name(id="print" | "input"):
                yield node
            case ast.Attribute(attr=attr, value=of) if attr in SHOWING and "display" in ast.unparse(of).lower():
                yield node
            case ast.Attribute(attr="write" | "writelines", value=of) if ast.unparse(of).split(".")[-1] in (
                STREAMS | {"buffer", "os", "__stdout__", "__stderr__"}
            ):
                yield node


def past_it(text: str, name: str) -> list[str]:
    """The calls in a program's text that show what `visible` has not seen."""
    found = []
    for call in shown_in(ast.parse(text)):
        said = f"{name}: {ast.unparse(call)}"
        if not all(map(safe, call.args)) and said not in ALLOWED:
            found.append(said)
    return found


PROGRAMS = [
    *sorted(ROOT.glob("plugins/**/*.py")),
    *(path for path in sorted(ROOT.glob("roles/**/*.py")) if "molecule" not in path.parts),
]


def test_all_that_is_shown_to_people_is_made_visible() -> None:
    assert sum(bool(list(shown_in(ast.parse(path.read_text())))) for path in PROGRAMS) >= 9
    assert [one for path in PROGRAMS for one in past_it(path.read_text(), str(path.relative_to(ROOT)))] == []


@pytest.mark.parametrize(
    "text",
    [
        "print(error)",
        "print(f'failed: {error}', file=sys.stderr)",
        "print('failed:', error)",
        "sys.stderr.write(error)",
        "sys.stdout.buffer.write(error)",
        "os.write(1, error)",
        "self._display.display(entry['line'], color='red')",
        "self._display.warning(why)",
        "display.prompt_until(f'{question}?')",
        "display.vvv(line)",
    ],
)
def test_a_new_place_that_shows_a_text_as_it_is_would_be_found(text: str) -> None:
    assert past_it(text, "new.py")


def test_a_program_of_a_host_is_installed_with_what_makes_text_visible() -> None:
    needing = {path.name for path in ROOT.glob("plugins/scripts/*.py") if "flotilla.terminal" in path.read_text()}
    assert len(needing) == 7
    seen = set()
    for path in ROOT.glob("roles/*/vars/main.yml"):
        variables = yaml.safe_load(path.read_text())
        lists = {name: files for name, files in variables.items() if isinstance(files, list)}
        contents = {
            name: [str(file.get("content")) for file in files if isinstance(file, dict)]
            for name, files in lists.items()
        }
        # A list may be made of others: "{{ a + b }}".
        whole = [text for text in variables.values() if isinstance(text, str) and " + " in text]
        for name, mine in contents.items():
            here = {script for script in needing for content in mine if f"/scripts/{script}" in content}
            beside = [other for text in whole if re.search(rf"\b{name}\b", text) for other in contents if other in text]
            installed = [content for one in (name, *beside) for content in contents[one]]
            there = any("module_utils/flotilla/terminal.py" in content for content in installed)
            assert not here or there, (path, name)
            seen |= here
    assert seen == needing
