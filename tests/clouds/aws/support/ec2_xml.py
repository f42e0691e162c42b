"""EC2 query protocol of the overlay: forms in, XML out."""

from __future__ import annotations

import base64
import fnmatch
import re
import urllib.parse
import uuid
from collections.abc import Iterable, Mapping, Sequence
from xml.etree import ElementTree

from fake_server import Answer

__all__ = ["Ec2Error", "Form", "add", "answer", "document", "error_answer", "items", "page", "parse", "set_text"]

NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"
_TOKEN = "overlay-page-"


class Ec2Error(Exception):
    """An EC2 error with its code."""

    def __init__(self, code: str, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


class Form:
    """The parameters of one call."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values = dict(values)

    @classmethod
    def read(cls, body: bytes) -> Form:
        return cls(dict(urllib.parse.parse_qsl(body.decode(), keep_blank_values=True)))

    def get(self, name: str, default: str = "") -> str:
        return self.values.get(name, default)

    def numbered(self, prefix: str) -> list[str]:
        """Return the values of ``prefix.1``, ``prefix.2`` …"""
        pattern = re.compile(re.escape(prefix) + r"\.(\d+)")
        found = [(int(match[1]), value) for name, value in self.values.items() if (match := pattern.fullmatch(name))]
        return [value for _, value in sorted(found)]

    def filters(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        number = 1
        while f"Filter.{number}.Name" in self.values:
            found[self.values[f"Filter.{number}.Name"]] = self.numbered(f"Filter.{number}.Value")
            number += 1
        return found

    def without(self, *prefixes: str) -> Form:
        """Return the call without the parameters that start with one of the prefixes."""
        return Form({n: v for n, v in self.values.items() if not n.startswith(prefixes)})

    def with_filters(self, filters: Mapping[str, Sequence[str]]) -> Form:
        """Return the call with these filters instead of its own."""
        changed = self.without("Filter.")
        for number, (name, values) in enumerate(filters.items(), 1):
            changed.values[f"Filter.{number}.Name"] = name
            for index, value in enumerate(values, 1):
                changed.values[f"Filter.{number}.Value.{index}"] = value
        return changed

    def encoded(self) -> bytes:
        return urllib.parse.urlencode(self.values).encode()


def matches(value: str, patterns: Iterable[str]) -> bool:
    """Return whether a value matches a filter with EC2's wildcards."""
    return any(fnmatch.fnmatchcase(value, _shell_pattern(pattern)) for pattern in patterns)


def _shell_pattern(pattern: str) -> str:
    # EC2 escapes a wildcard with a backslash, fnmatch with brackets, which are literal in EC2.
    pattern = pattern.replace("[", "[[]")
    return re.sub(r"\\([*?\\])", lambda match: f"[{match[1]}]", pattern)


def parse(body: bytes) -> ElementTree.Element:
    """Return the tree of a response, with names without namespace."""
    root = ElementTree.fromstring(body)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def document(action: str) -> ElementTree.Element:
    """Return an empty response to an action."""
    root = ElementTree.Element(f"{action}Response")
    add(root, "requestId", str(uuid.uuid4()))
    return root


def add(parent: ElementTree.Element, tag: str, text: str | None = None) -> ElementTree.Element:
    element = ElementTree.SubElement(parent, tag)
    element.text = text
    return element


def set_text(parent: ElementTree.Element, tag: str, text: str) -> None:
    """Set the text of a child, which is created if missing."""
    child = parent.find(tag)
    (child if child is not None else ElementTree.SubElement(parent, tag)).text = text


def items(root: ElementTree.Element, container: str) -> list[ElementTree.Element]:
    found = root.find(container)
    return [] if found is None else list(found)


def answer(root: ElementTree.Element) -> Answer:
    root.set("xmlns", NAMESPACE)
    return Answer(body=ElementTree.tostring(root), headers={"Content-Type": "text/xml;charset=UTF-8"})


def error_answer(error: Ec2Error) -> Answer:
    root = ElementTree.Element("Response")
    entry = add(add(root, "Errors"), "Error")
    add(entry, "Code", error.code)
    add(entry, "Message", error.message)
    add(root, "RequestID", str(uuid.uuid4()))
    return Answer(
        status=error.status, body=ElementTree.tostring(root), headers={"Content-Type": "text/xml;charset=UTF-8"}
    )


def page(root: ElementTree.Element, container: str, form: Form, *, limit: int | None) -> None:
    """Keep one page of the container's children, and add a token if more follow.

    Args:
        limit: Maximum page size, regardless of the request; None: no limit.
    """
    element = root.find(container)
    if element is None:
        return
    children = list(element)
    wanted = int(form.get("MaxResults", "0")) or len(children)
    size = max(1, min(wanted, limit or wanted))
    start = _offset(form.get("NextToken"))
    for child in [*children[:start], *children[start + size :]]:
        element.remove(child)
    old = root.find("nextToken")
    if old is not None:
        root.remove(old)
    if start + size < len(children):
        add(root, "nextToken", base64.b64encode(f"{_TOKEN}{start + size}".encode()).decode())


def _offset(token: str) -> int:
    if not token:
        return 0
    try:
        return int(base64.b64decode(token).decode().removeprefix(_TOKEN))
    except ValueError as error:
        raise Ec2Error("InvalidNextToken", "The token is not valid.") from error
