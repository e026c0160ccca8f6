"""Finds every pattern of the package, and makes from each the texts that would take longest."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from re import _constants as sre
from re import _parser
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import custsvc

# Patterns that a function builds from its arguments, with arguments that it is given.
_ARGUMENTS: dict[str, Any] = {
    "header": r"\[\[rule\]\]",
    "key": "a-key",
    "longest_first": ["a 'secret\\' one", "another"],
}
_ARGUMENTS["route"] = SimpleNamespace(path="/api/webhooks/<endpoint>")
_FUNCTIONS = ("compile", "match", "fullmatch", "search", "sub", "split", "findall", "finditer")
_MAY_HAVE = re.compile(r"\bre\.|\bpattern\s*=|\bregex\b")
_LOOKS_EVERYWHERE = frozenset(("search", "sub", "split", "findall", "finditer"))


class Found(NamedTuple):
    """A pattern, where it stands, and the ways in which it is asked."""

    where: str
    pattern: re.Pattern[Any]
    asked: frozenset[str]


def modules() -> list[str]:
    """The modules that may have patterns, by their text: to import all of them takes a second."""
    root = Path(custsvc.__file__).parent
    found = [path for path in root.rglob("*.py") if _MAY_HAVE.search(path.read_text(encoding="utf-8"))]
    names = (path.relative_to(root.parent).with_suffix("").parts for path in found)
    return sorted(".".join(parts).removesuffix(".__init__") for parts in names)


def patterns_of(name: str) -> list[Found]:
    """The patterns that a module gives to `re`, those of routes, and those in the published documents."""
    module = importlib.import_module(name)
    return list(_of_module(module))


def _of_module(module: ModuleType) -> Iterator[Found]:
    tree = ast.parse(inspect.getsource(module))
    asked = _asked(tree)
    for node in ast.walk(tree):
        where = f"{module.__name__}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Call) and _is_re(node.func):
            function = node.func.attr  # type: ignore[attr-defined]
            flags = [_value(each.value, module) for each in node.keywords if each.arg == "flags"]
            flags += [_value(each, module) for each in node.args[1:] if ast.unparse(each).startswith("re.")]
            text = _value(node.args[0], module)
            ways = asked.get(_target(tree, node), frozenset()) if function == "compile" else {function}
            yield Found(where, re.compile(text, *flags), frozenset(ways or _FUNCTIONS[1:]))
        elif isinstance(node, ast.keyword) and node.arg == "pattern":
            yield Found(where, re.compile(_value(node.value, module)), frozenset({"search"}))
        elif isinstance(node, ast.Assign) and [ast.unparse(each) for each in node.targets] == ["regex"]:
            yield Found(where, re.compile(_value(node.value, module)), frozenset({"match"}))


def _is_re(function: ast.expr) -> bool:
    return (
        isinstance(function, ast.Attribute)
        and isinstance(function.value, ast.Name)
        and function.value.id == "re"
        and function.attr in _FUNCTIONS
    )


def _value(node: ast.expr, module: ModuleType) -> Any:
    """The value of an expression in its module; a name that a function is given must be in `_ARGUMENTS`."""
    return eval(compile(ast.Expression(node), "pattern", "eval"), {**_ARGUMENTS, **vars(module)})


def _target(tree: ast.Module, call: ast.Call) -> str:
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is call:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            return ast.unparse(targets[0])
    return ""


def _asked(tree: ast.Module) -> dict[str, frozenset[str]]:
    """How each name is asked: `_KEY.fullmatch(…)`."""
    found: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found.setdefault(node.value.id, set()).add(node.attr)
    return {name: frozenset(ways) & set(_FUNCTIONS) for name, ways in found.items()}


def askers(found: Found) -> list[Callable[[Any], object]]:
    """The ways to ask a pattern, each as a function of the text."""
    pattern, empty = found.pattern, b"" if isinstance(found.pattern.pattern, bytes) else ""
    ways: list[Callable[[Any], object]] = []
    if found.asked & _LOOKS_EVERYWHERE:
        ways.append(lambda text: pattern.sub(empty, text))
    if "fullmatch" in found.asked:
        ways.append(pattern.fullmatch)
    if "match" in found.asked:
        ways.append(pattern.match)
    return ways


class Attack(NamedTuple):
    """A text of any length: a begin that fits, a part that fits again and again, an end that does not."""

    begin: str
    part: str
    end: str

    def text(self, pattern: re.Pattern[Any], length: int) -> Any:
        text = self.begin + self.part * (length // len(self.part)) + self.end
        return text.encode("latin-1", "replace") if isinstance(pattern.pattern, bytes) else text


def attacks(pattern: re.Pattern[Any]) -> list[Attack]:
    """Made from the pattern: each run of its parts repeated, behind each of its beginnings."""
    tree = _parser.parse(pattern.pattern, pattern.flags & ~re.UNICODE | _unicode(pattern))
    parts = sorted({part for sequence in _sequences(tree) for part in _runs(sequence) if part}, key=len)[:60]
    begins = sorted({"", *(_sample(list(tree)[:count]) for count in range(1, len(tree) + 1))}, key=len)[:5]
    return [Attack(begin, part, end) for begin in begins for part in parts for end in ("", "\0")]


def _unicode(pattern: re.Pattern[Any]) -> int:
    return 0 if isinstance(pattern.pattern, bytes) or pattern.flags & re.ASCII else int(re.UNICODE)


def _runs(sequence: list[Any]) -> Iterator[str]:
    for start in range(len(sequence)):
        for end in range(start + 1, min(start + 4, len(sequence)) + 1):
            yield _sample(sequence[start:end])
    yield _sample(sequence)
    for op, value in sequence:
        if op is sre.IN:
            yield from _characters(value)


def _sequences(tree: Any) -> Iterator[list[Any]]:
    """The pattern's sequences: itself, and those of its groups, branches and repeats."""
    items = list(tree)
    yield items
    for op, value in items:
        if op is sre.BRANCH:
            for branch in value[1]:
                yield from _sequences(branch)
        elif op in (sre.SUBPATTERN, sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT):
            yield from _sequences(value[-1])
        elif op is sre.ATOMIC_GROUP:
            yield from _sequences(value)


def _sample(items: Any) -> str:
    """A text that the items take."""
    return "".join(map(_one, items))


def _one(item: Any) -> str:
    op, value = item
    if op is sre.LITERAL:
        return chr(value)
    if op is sre.NOT_LITERAL:
        return "b" if value == ord("a") else "a"
    if op is sre.ANY:
        return "a"
    if op is sre.IN:
        return next(_characters(value), "")
    if op is sre.BRANCH:
        return _sample(value[1][0])
    if op is sre.ATOMIC_GROUP:
        return _sample(value)
    if op is sre.ASSERT:
        return _sample(value[1]) if value[0] < 0 else ""  # what stands before; what follows comes itself
    if op is sre.SUBPATTERN:
        return _sample(value[-1])
    if op in (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT):
        return _sample(value[-1]) * max(1, min(value[0], 50))
    return ""


_TRIED = [" ", "\t", "\n", "a", "z", "A", "0", "9", "-", "_", ".", '"', "é", *map(chr, range(33, 127)), "\0"]


def _characters(items: Any) -> Iterator[str]:
    """Some characters of a set."""
    one = re.compile(_set(items), re.DOTALL)
    yield from [char for char in _TRIED if one.fullmatch(char)][:3]


def _set(items: Any) -> str:
    text = ""
    for op, value in items:
        if op is sre.NEGATE:
            text = "^" + text
        elif op is sre.LITERAL:
            text += re.escape(chr(value))
        elif op is sre.RANGE:
            text += f"{re.escape(chr(value[0]))}-{re.escape(chr(value[1]))}"
        elif op is sre.CATEGORY:
            name = str(value).rpartition("_")[2].lower()
            sign = {"digit": "d", "space": "s", "word": "w"}[name]
            text += "\\" + (sign.upper() if "NOT" in str(value) else sign)
    return f"[{text}]"
