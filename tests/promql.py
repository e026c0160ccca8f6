"""Evaluates the part of PromQL that our alerts use, over series that a test writes.

The parser is a library's.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import promql_parser as promql

Labels = frozenset[tuple[str, str]]
# Each series by its name and labels: its value at a time, None where it has none.
Series = Mapping[tuple[str, Labels], Callable[[float], float | None]]
Vector = dict[Labels, float]

_NAME: Final = "__name__"
_COMPARE: Final = {">": operator.gt, "<": operator.lt, "==": operator.eq}
_COUNT: Final = {"/": operator.truediv, "-": operator.sub}
_MATCH: Final[dict[str, Callable[[str, str], bool]]] = {
    "MatchOp.Equal": operator.eq,
    "MatchOp.NotEqual": operator.ne,
    "MatchOp.Re": lambda text, value: re.fullmatch(value, text) is not None,
    "MatchOp.NotRe": lambda text, value: re.fullmatch(value, text) is None,
}
_OVER: Final[dict[str, Callable[[list[float]], float]]] = {"sum": sum, "max": max, "min": min, "count": len}


def selectors(text: str) -> Iterator[Any]:
    """The metrics that an expression names."""
    yield from _walk(promql.parse(text))


def _walk(expr: Any) -> Iterator[Any]:
    if isinstance(expr, promql.VectorSelector):
        yield expr
    for name in ("expr", "lhs", "rhs", "vector_selector"):
        if (inner := getattr(expr, name, None)) is not None:
            yield from _walk(inner)
    for argument in getattr(expr, "args", ()):
        yield from _walk(argument)


class Evaluation:
    """The series at one time."""

    def __init__(self, series: Series, now: float) -> None:
        self._series = series
        self._now = now

    def __call__(self, text: str) -> Vector:
        """The vector of an expression."""
        found = self._of(promql.parse(text))
        assert isinstance(found, dict), text
        return found

    def _of(self, expr: Any) -> Vector | float:
        match expr:
            case promql.NumberLiteral():
                return float(expr.val)
            case promql.ParenExpr():
                return self._of(expr.expr)
            case promql.VectorSelector():
                return self._selected(expr, self._now)
            case promql.AggregateExpr():
                return self._together(expr)
            case promql.Call():
                return self._called(expr)
            case promql.BinaryExpr():
                return _both(str(expr.op), self._of(expr.lhs), self._of(expr.rhs))
        raise NotImplementedError(type(expr))

    def _selected(self, selector: Any, at: float) -> Vector:
        found: Vector = {}
        for (name, labels), value in self._series.items():
            if name == selector.name and _fits(dict(labels), selector) and (now := value(at)) is not None:
                found[labels] = now
        return found

    def _together(self, expr: Any) -> Vector:
        by = list(expr.modifier.labels) if expr.modifier is not None else []
        groups: dict[Labels, list[float]] = {}
        for labels, value in _vector(self._of(expr.expr)).items():
            groups.setdefault(frozenset(pair for pair in labels if pair[0] in by), []).append(value)
        return {labels: float(_OVER[str(expr.op)](values)) for labels, values in groups.items()}

    def _called(self, expr: Any) -> Vector | float:
        name = expr.func.name
        if name == "time":
            return self._now
        (argument,) = expr.args
        if name == "absent":
            if _vector(self._of(argument)):
                return {}
            wanted = [m for m in argument.matchers.matchers if str(m.op) == "MatchOp.Equal"]
            return {frozenset((m.name, m.value) for m in wanted): 1.0}
        seconds = argument.range.total_seconds()
        before = self._selected(argument.vector_selector, self._now - seconds)
        after = self._selected(argument.vector_selector, self._now)
        more = {labels: value - before.get(labels, value) for labels, value in after.items()}
        return {labels: value / seconds if name == "rate" else value for labels, value in more.items()}


def _fits(labels: Mapping[str, str], selector: Any) -> bool:
    return all(_MATCH[str(m.op)](labels.get(m.name, ""), m.value) for m in selector.matchers.matchers)


def _vector(found: Vector | float) -> Vector:
    assert isinstance(found, dict)
    return found


def _both(op: str, left: Vector | float, right: Vector | float) -> Vector | float:
    if op == "or":
        return {**_vector(right), **_vector(left)}
    if op in _COMPARE:
        assert isinstance(right, float)
        return {labels: value for labels, value in _vector(left).items() if _COMPARE[op](value, right)}
    count = _COUNT[op]
    if isinstance(left, float) and isinstance(right, float):
        return float(count(left, right))
    if isinstance(left, float):
        return {labels: count(left, value) for labels, value in _vector(right).items()}
    if isinstance(right, float):
        return {labels: count(value, right) for labels, value in left.items()}
    return {labels: count(value, right[labels]) for labels, value in left.items() if right.get(labels)}
