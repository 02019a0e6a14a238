"""Keeps what Python compiled of Ansible's modules.

They come as sources in a zip file with each task, and compiling them is a third of what a task costs a droplet. A file
beside this one, lab_compiled.pth, has Python import it at its start.
"""

from __future__ import annotations

import io
import marshal
import os
import zipimport
from _imp import source_hash

# Made with the image, and root's alone.
DIRECTORY = "/var/cache/lab-compiled"
internals = vars(zipimport)
compile_source = internals["_compile_source"]


def compiled(path: str, source: bytes) -> object:
    """Return the code of a module's source, of earlier if it is the same."""
    kept = f"{DIRECTORY}/{source_hash(0, source).hex()}-{len(source)}"
    try:
        with io.FileIO(kept) as file:
            return marshal.loads(file.readall())
    except (OSError, EOFError, ValueError, TypeError):
        code = compile_source(path, source)
    try:
        with io.FileIO(f"{kept}.{os.getpid()}", "w") as file:
            file.write(marshal.dumps(code))
        os.rename(f"{kept}.{os.getpid()}", kept)  # noqa: PTH104 (importing pathlib costs what is saved)
    except OSError:
        pass
    return code


internals["_compile_source"] = compiled
