"""YAML read so that a message can name the line of everything in it. For the controller: droplets have no PyYAML."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


class YamlError(Exception):
    """The text is not YAML. `line` counts from 1, and is None where the parser names none."""

    def __init__(self, message: str, line: int | None) -> None:
        super().__init__(message)
        self.line = line


@dataclass
class Document:
    """Plain data, the line of each path (`services.web.ports[0]`), and the paths that are written twice.

    Every scalar is text but null, true and false, so that nothing is read into a version or a port.
    Merges (`<<`) are applied, and tags such as `!reset` passed over.
    """

    data: Any = None
    lines: dict[str, int] = field(default_factory=dict)
    repeated: list[str] = field(default_factory=list)


def read_documents(text: str) -> list[Document]:
    """The documents of a YAML text that are not empty. Raises `YamlError`."""
    import yaml

    documents = []
    try:
        for node in yaml.compose_all(text, Loader=yaml.SafeLoader):
            if node is not None:
                document = Document()
                document.data = _read(node, "", document, {})
                documents.append(document)
    except RecursionError as error:
        raise YamlError("it is nested too deeply", None) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        message = str(getattr(error, "problem", None) or error).splitlines()[0]
        raise YamlError(message, mark.line + 1 if mark else None) from error
    return documents


def _read(node: Any, path: str, document: Document, done: dict[int, Any]) -> Any:
    """Plain data from a node. `done` holds what aliases refer to."""
    document.lines.setdefault(path, node.start_mark.line + 1)
    if id(node) in done:
        return done[id(node)]
    if node.id == "scalar":
        return _scalar(node)
    if node.id == "sequence":
        items: list[Any] = []
        done[id(node)] = items
        items += [_read(item, f"{path}[{index}]", document, done) for index, item in enumerate(node.value)]
        return items
    result: dict[str, Any] = {}
    done[id(node)] = result
    merged: list[Any] = []
    for key_node, value_node in node.value:
        if key_node.tag.endswith(":merge"):
            merged += value_node.value if value_node.id == "sequence" else [value_node]
            continue
        key = str(key_node.value)
        below = f"{path}.{key}" if path else key
        if key in result:
            document.repeated.append(below)
        document.lines.setdefault(below, key_node.start_mark.line + 1)
        result[key] = _read(value_node, below, document, done)
    for source in merged:
        base = _read(source, f"{path}.<<", document, done)
        for key, value in base.items() if isinstance(base, dict) else ():
            result.setdefault(key, value)
    return result


def _scalar(node: Any) -> Any:
    if node.tag.endswith(":null"):
        return None
    if not node.style and node.value.lower() in ("true", "false"):
        return node.value.lower() == "true"
    return node.value
