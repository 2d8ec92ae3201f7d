"""Reads a YAML file as nodes that know their lines, so that every error has the file and the line."""

from __future__ import annotations

import datetime
import re
from collections.abc import Set
from pathlib import Path
from typing import Any

import yaml

from pipeline.datasets.spec import parse_month
from pipeline.errors import PipelineError

# The C parser is ten times faster and included in all published wheels; the Python parser is equivalent.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(file: Path) -> Node:
    """Returns the root of a YAML file.

    :raises PipelineError: with file and line, if it is empty or not valid YAML.
    """
    text = file.read_bytes()
    try:
        tree = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise _yaml_error(file, error, text) from error
    if tree is None:
        raise PipelineError(f"{file}, line 1: the file is empty")
    return Node(file, tree)


class Node:
    """A YAML node with its position in the file, for error messages."""

    def __init__(self, file: Path, node: yaml.Node):
        self.file = file
        self.node = node

    def error(self, message: str) -> PipelineError:
        return PipelineError(f"{self.file}, line {self.node.start_mark.line + 1}: {message}")

    def mapping(self, required: Set[str] = frozenset(), optional: Set[str] | None = None) -> dict[str, Node]:
        """Returns the entries of a mapping with these keys; with any keys, if no optional ones are given."""
        if not isinstance(self.node, yaml.MappingNode):
            raise self.error("expected a mapping of keys to values")
        found: dict[str, Node] = {}
        for key_node, value_node in self.node.value:
            key = Node(self.file, key_node)
            name = key.text()
            if optional is not None and name not in required | optional:
                raise key.error(f"unknown key '{name}'; known keys: {', '.join(sorted(required | optional))}")
            if name in found:
                raise key.error(f"key '{name}' is given twice")
            found[name] = Node(self.file, value_node)
        if missing := sorted(required - found.keys()):
            raise self.error(f"missing key{'s' if len(missing) > 1 else ''} {', '.join(missing)}")
        return found

    def items(self) -> list[Node]:
        if not isinstance(self.node, yaml.SequenceNode) or not self.node.value:
            raise self.error("expected a list with at least one entry")
        return [Node(self.file, node) for node in self.node.value]

    def text(self) -> str:
        if not isinstance(self.node, yaml.ScalarNode) or not str(self.node.value).strip():
            raise self.error("expected a text")
        return str(self.node.value)

    def matching(self, pattern: re.Pattern[str], what: str) -> str:
        if not pattern.fullmatch(value := self.text()):
            raise self.error(f"'{value}' is not {what}")
        return value

    def choice(self, choices: tuple[str, ...]) -> str:
        if (value := self.text()) not in choices:
            raise self.error(f"'{value}' is not one of {', '.join(choices)}")
        return value

    def boolean(self) -> bool:
        return self.choice(("true", "false")) == "true"

    def month(self) -> datetime.date:
        try:
            return parse_month(self.text())
        except ValueError as error:
            raise self.error(str(error)) from None


def _yaml_error(file: Path, error: yaml.YAMLError, text: bytes) -> PipelineError:
    line, problem = 1, " ".join(str(error).split())
    if isinstance(error, yaml.reader.ReaderError):  # invalid encoding
        line = text.count(b"\n", 0, error.position) + 1
    elif isinstance(error, yaml.MarkedYAMLError):
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problem = error.problem or problem
    return PipelineError(f"{file}, line {line}: not valid YAML: {problem}")
