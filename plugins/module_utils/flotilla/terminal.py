"""What others have written, as a terminal may be shown it: user agents, log lines, errors, names from registries.

A terminal obeys what it is sent: an escape sequence writes to the clipboard, clears the screen or moves the cursor over
a line that was read already. Whatever shows text to people calls `visible` last, right before it is written. The
programs of a host have this file beside them; it needs the standard library alone.
"""

from __future__ import annotations

import re

# C0 but for the tab, DEL, C1; the bidirectional controls, and what else ends a line (Unicode 16, 23.1 and 23.2);
# halves of surrogate pairs, which no stream of UTF-8 takes.
_OBEYED = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ud800-\udfff]")
_OBEYED_IN_LINES = re.compile(_OBEYED.pattern.replace(r"\x0a", r"\x0b"))


def visible(text: str, *, lines: bool = False) -> str:
    r"""One line with its control characters written out (`\x1b`, `\r`, `\u202e`). lines: newlines are meant, and stay.

    What has been through it once stays as it is.
    """
    return (_OBEYED_IN_LINES if lines else _OBEYED).sub(_written_out, text)


def _written_out(found: re.Match[str]) -> str:
    return found.group().encode("unicode_escape").decode()
