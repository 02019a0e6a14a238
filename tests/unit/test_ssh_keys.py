"""Public keys: what a line of `authorized_keys` holds, whatever stands around the key."""

from __future__ import annotations

import base64

import pytest
from flotilla.ssh_keys import Key, fingerprint, read_keys
from hypothesis import given
from hypothesis import strategies as st

# Made for this test; the fingerprint is what `ssh-keygen -lf` says.
BLOB = "AAAAC3NzaC1lZDI1NTE5AAAAIOCiG3aTm7tkAeuJI0ghTG9hUI5CEBVHrxyAIdVnMmtM"
FINGERPRINT = "SHA256:qCBH5ek+YPKcJjP7vpjYnRQpCSyfapjGjO7XZUX6BF0"


@pytest.mark.parametrize(
    ("line", "comment"),
    [
        (f"ssh-ed25519 {BLOB}", ""),
        (f"  ssh-ed25519 {BLOB} mia@laptop at home  ", "mia@laptop at home"),
        (f'from="192.0.2.0/24",command="echo \\"ssh-rsa AAAA\\"" ssh-ed25519 {BLOB} mia', "mia"),
        (f"no-pty ssh-ed25519\t{BLOB}\tmia", "mia"),
        (f"# the key of Mia\n\nssh-ed25519 {BLOB} ssh-rsa AAAA", "ssh-rsa AAAA"),
    ],
)
def test_a_key_is_found_in_its_line(line: str, comment: str) -> None:
    assert read_keys(line) == [Key(FINGERPRINT, BLOB, comment)]


def test_every_line_of_a_file_is_a_key() -> None:
    assert [key.comment for key in read_keys(f"ssh-ed25519 {BLOB} one\n# two\nssh-ed25519 {BLOB} three\n")] == [
        "one",
        "three",
    ]


def test_what_is_no_key_stands_for_itself() -> None:
    assert read_keys("https://keys.example.com/mia.keys") == [
        Key("https://keys.example.com/mia.keys", "https://keys.example.com/mia.keys")
    ]


types = st.sampled_from(["ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "sk-ssh-ed25519@openssh.com"])
blobs = st.binary(min_size=1, max_size=80).map(lambda raw: base64.b64encode(raw).decode())
quoted = st.text(st.characters(codec="ascii", exclude_categories=["Cc"], exclude_characters='"\\')).map(
    lambda text: f'command="{text}"'
)
options = st.lists(st.one_of(quoted, st.sampled_from(["no-pty", "restrict"])), max_size=3).map(",".join)
comments = st.text(st.characters(codec="ascii", exclude_categories=["Cc"])).map(str.strip)


@given(options, types, blobs, comments)
def test_options_and_comments_never_change_the_key(option: str, kind: str, blob: str, comment: str) -> None:
    line = " ".join(part for part in (option, kind, blob, comment) if part)
    assert read_keys(line) == [Key(fingerprint(blob), blob, comment)]


@given(st.text())
def test_no_text_breaks_the_reader(text: str) -> None:
    assert all(key.fingerprint for key in read_keys(text))
