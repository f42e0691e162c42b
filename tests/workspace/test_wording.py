"""Help, messages, docstrings, comments and documentation use the standard terms of docs/glossary.md.

`WORDS` lists expressions to avoid, each with the term to use instead. Code is not checked: code blocks and quoted names
in Markdown and docstrings, identifiers, and string constants of one word.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest
from reference_docs import cli_reference, configuration_reference

ROOT = Path(__file__).parents[2]

WORDS = {
    r"tell(s|ing)?|told": "report, show, log, distinguish: programs do not speak",
    r"hear(s|ing)?|heard": "last heartbeat, receive",
    r"sign of life": "heartbeat",
    r"mend(s|ed|ing)?": "fix",
    r"dear(er|est)?": "expensive, cost",
    r"unasked": "without confirmation",
    r"whoever|nobody|somebody": "a noun: user, process, instance",
    r"stranger(s)?": "unmanaged instance, instances of other users",
    r"rehears(e|es|ed|al|als|ing)": "simulate, simulation (the former command name is an alias)",
    r"sweep(s|ing)?": "terminate expired instances; parameter grid (command and task source are aliases)",
    r"afresh|anew": "again; create, start",
    r"go(es)? on with|go(es)? on|went on|going on": "resume, continue",
    r"to be had|cannot be had|can be had": "available",
    r"tak(e|es|en|ing) away|took away": "reclaim, preempt, terminate",
    r"set aside": "dead-lettered",
    r"tr(y|ied|ies|ying) again": "retry",
    r"phone book": "discovered with pluggy",
    r"final word|last word": "terminal state",
    r"for good": "permanently",
    r"how (a|the|its) jobs? (stands|goes)|how jobs (go|stand)": "status, progress",
    r"comes? (to|into) (its|their) end": "finish, reach a terminal state",
    r"(?<!there )is no (number|name|file|folder|text|time|URL|value|JSON|YAML|TOML|use)": "invalid ...",
    r"promise(s|d)?": "guarantee, invariant",
    r"stand-ins?": "emulator, fake",
    r"(first|last|next|each|every|two|one|a) looks?(?!-)": "scaling check, update",
}
"""Expressions to avoid, with the term to use instead."""

EXCEPTIONS = {
    "cloud-tasks sweep": "the command's name",
    "cloud-tasks rehearse": "the former name of a command, in its warning",
}
"""Phrases that are allowed although they contain an expression to avoid, each with its reason."""

PRONOUNS = (
    "it",
    "its",
    "they",
    "that",
    "what",
    "whatever",
    "who",
    "whoever",
    "nobody",
    "nothing",
    "a",
    "an",
    "one",
    "the",
    "there",
)
"""First words of test names to avoid: a name begins with the unit under test."""

TESTS = ("core/tests", "plugins", "tests", "examples")
"""Folders of tests."""

_EXPRESSIONS = {re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE): use for pattern, use in WORDS.items()}
_ALLOWED = re.compile("|".join(rf"\b{re.escape(phrase)}\b" for phrase in EXCEPTIONS), re.IGNORECASE)
_CODE = re.compile(r"``[^`]*``|`[^`]*`|\]\([^)]*\)|https?://\S+|\$\{?\w+\}?")


def markdown_prose(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of a page without code blocks, with their numbers."""
    fenced = False
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced and not re.match(r" {4,}\S", line):
            yield number, line


def python_prose(text: str) -> Iterator[tuple[int, str]]:
    """Yield comments, docstrings and string constants of more than one word, with their line numbers."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value.strip():
            for offset, line in enumerate(node.value.splitlines()):
                yield node.lineno + offset, line


def findings(lines: Iterator[tuple[int, str]], where: str) -> list[str]:
    found = []
    for number, line in lines:
        prose = _ALLOWED.sub(" ", _CODE.sub(" ", line))
        for expression, use in _EXPRESSIONS.items():
            if match := expression.search(prose):
                found.append(f'{where}:{number}: "{match.group()}": {use}')
    return found


def pages() -> dict[str, list[Path]]:
    """Return the pages by part: each page of docs, and the README of each distribution."""
    parts = {
        path.relative_to(ROOT).as_posix(): [path]
        for path in [*sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("*.md"))]
    }
    for pattern in ("core/*.md", "plugins/*/*.md", "examples/**/*.md"):
        parts |= {path.relative_to(ROOT).as_posix(): [path] for path in sorted(ROOT.glob(pattern))}
    return parts


def sources() -> dict[str, list[Path]]:
    """Return the source files by part: packages and modules of core, plugins, examples, the development command."""
    core = ROOT / "core" / "src" / "cloud_tasks"
    parts = {f"core/{path.name}": [path] for path in sorted(core.glob("*.py")) if path.name != "__init__.py"}
    parts |= {
        f"core/{path.name}": sorted(path.rglob("*.py"))
        for path in sorted(core.iterdir())
        if (path / "__init__.py").is_file()
    }
    parts |= {f"plugins/{path.name}": sorted(path.glob("src/**/*.py")) for path in sorted((ROOT / "plugins").iterdir())}
    parts["examples"] = sorted((ROOT / "examples").rglob("*.py"))
    parts["dev.py"] = [ROOT / "dev.py", ROOT / "conftest.py"]
    return parts


@pytest.mark.parametrize("part", pages())
def test_pages_use_the_standard_terms(part: str) -> None:
    found = [finding for path in pages()[part] for finding in findings(markdown_prose(path.read_text("utf-8")), part)]
    assert found == []


@pytest.mark.parametrize("part", sources())
def test_source_texts_use_the_standard_terms(part: str) -> None:
    found: list[str] = []
    for path in sources()[part]:
        found += findings(python_prose(path.read_text("utf-8")), path.relative_to(ROOT).as_posix())
    assert found == []


@pytest.mark.parametrize("reference", [cli_reference, configuration_reference], ids=lambda each: each.__name__)
def test_help_of_every_command_uses_the_standard_terms(reference) -> None:  # type: ignore[no-untyped-def]
    assert findings(markdown_prose(reference()), reference.__name__) == []


@pytest.mark.parametrize("folder", TESTS)
def test_names_of_tests_begin_with_the_unit_under_test(folder: str) -> None:
    names = [
        name
        for path in sorted((ROOT / folder).rglob("test_*.py"))
        for name in re.findall(r"^ *def (test_\w+)", path.read_text("utf-8"), re.M)
    ]
    assert names
    assert [name for name in names if name.split("_")[1] in PRONOUNS] == []


def test_findings_name_line_expression_and_term() -> None:
    text = "Fine.\n\n    nobody in code\n\nThe worker is told `nobody`, by whoever.\n"
    assert [line.partition(": ")[0] for line in findings(markdown_prose(text), "page")] == ["page:5", "page:5"]
    source = 'def f():\n    """Tell nobody."""\n    raise E("it goes on", "sweep")  # heard\n'
    assert [line.split(":")[1] for line in findings(python_prose(source), "f.py")] == ["3", "2", "2", "3"]
