"""PromQL as policies may use it: bounded, parsed, judged, and asked together with its age.

The manager and the reactor call `PromqlChecker` before a policy is accepted, `PrometheusSource`
calls `parsed` for what it sends. A measurement must be able to say "nothing is known": whatever
turns missing data into a number, or a healthy state into an empty answer, is refused here.

Text is bounded before the parser sees it: the parser recurses, and text that nests deeply enough
ends the process. Nothing here does I/O.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import lru_cache

import promql_parser as promql

from killswitch.core.errors import InvalidPolicyError

LONGEST = 4096
DEEPEST = 50
OPERATORS = 50
"""Each operator may be one level of recursion: `- - - x` is as deep as `(((x)))`."""
SELECTORS = 16
"""Each becomes one more part of the request, which has to fit into a URL."""

KIND = "__k"
"""Label that tells the parts of one answer apart: `v`, or the number of a selector."""
VALUE = "v"

_TOKEN = re.compile(
    r"""(?P<skip>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`]*`|\#[^\n]*)
    |(?P<open>[(\[{])|(?P<close>[)\]}])
    |(?P<operator>[-+*/%^]|[=!<>]=|[<>]|\b(?:and|or|unless|atan2)\b)""",
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
_COMPARISONS = frozenset({"==", "!=", ">", "<", ">=", "<="})
_NO_DATA_FUNCTIONS = frozenset({"absent", "absent_over_time"})
_MATCH = {
    str(promql.MatchOp.Equal): "=",
    str(promql.MatchOp.NotEqual): "!=",
    str(promql.MatchOp.Re): "=~",
    str(promql.MatchOp.NotRe): "!~",
}


@dataclass(frozen=True, slots=True)
class Flaw:
    """Why a query cannot be used, and what to write instead."""

    problem: str
    cure: str


@dataclass(frozen=True, slots=True)
class Parsed:
    """A query that can be asked."""

    query: str
    scalar: bool
    selectors: tuple[str, ...]
    """Its bare vector selectors in order of appearance, each once, without range and offset."""
    needed: frozenset[int]
    """Numbers of the selectors that must have series for the answer to be whole."""

    @property
    def text(self) -> str:
        """One query for the value and for the age of the oldest sample of each selector.

        `timestamp` gives a sample's own time for bare selectors only. A line break ends a comment
        that the query may close with.
        """
        return self.tagged("")

    def tagged(self, prefix: str) -> str:
        """The same with this before every part's kind, so that several queries fit one request."""
        value = f"vector(\n{self.query}\n)" if self.scalar else self.query
        parts = [_tagged(f"\n{value}\n", prefix + VALUE)]
        return " or ".join([*parts, *self._ages(prefix)])

    @property
    def age(self) -> str:
        """PromQL for the age in seconds of the oldest sample that is read."""
        if len(self.selectors) == 1:
            return f"max(time()-timestamp({self.selectors[0]}))"
        return f"max({' or '.join(self._ages(''))})"

    def _ages(self, prefix: str) -> list[str]:
        return [
            _tagged(f"max(time()-timestamp({selector}))", f"{prefix}{number}")
            for number, selector in enumerate(self.selectors)
        ]


class PromqlChecker:
    """Port `QueryChecker` for PromQL. It needs no server, and says nothing about data."""

    def check(self, field: str, query: str) -> Mapping[str, str]:
        """Type, selectors and age (as PromQL) of a good query; InvalidPolicyError for any other."""
        found = _examined(query)
        if isinstance(found, Flaw):
            raise InvalidPolicyError(field, found.problem, found.cure)
        return {
            "type": "scalar" if found.scalar else "vector",
            "selectors": " ".join(found.selectors),
            "age": found.age,
        }


def parsed(query: str) -> Parsed:
    """The query, ready to be asked; InvalidPolicyError if the checker would refuse it."""
    found = _examined(query)
    if isinstance(found, Flaw):
        raise InvalidPolicyError("query", found.problem, found.cure)
    return found


def selectors(query: str) -> tuple[str, ...]:
    """The bare vector selectors of a good query."""
    return parsed(query).selectors


def metric(selector: str) -> str:
    """The metric that a bare selector of a good query names."""
    node = promql.parse(selector)
    return (_metric(node) if isinstance(node, promql.VectorSelector) else None) or ""


def read_by(rule: str) -> tuple[str, ...]:
    """The bare selectors of a recording rule's query, which policies' bounds do not apply to.

    Empty for what cannot be parsed, would be parsed too deeply, or does not name its metrics.
    """
    if _beyond_bounds(rule) is not None:
        return ()
    try:
        nodes = [place.node for place in _places(promql.parse(rule))]
    except ValueError:
        return ()
    found = [node for node in nodes if isinstance(node, promql.VectorSelector)]
    named = all(_metric(node) and not node.matchers.or_matchers for node in found)
    return tuple(dict.fromkeys(_without_time(node) for node in found)) if named else ()


def measurement(query: str) -> str:
    """The text that asks a good query and the ages of its samples in one request."""
    return parsed(query).text


@lru_cache(maxsize=4096)
def _examined(query: str) -> Parsed | Flaw:
    flaw = _beyond_bounds(query)
    if flaw is not None:
        return flaw
    try:
        expression = promql.parse(query)
    except ValueError as error:
        return Flaw(f"is not PromQL: {str(error)[:200]}", "try it in Prometheus's own page first")
    places = tuple(_places(expression))
    judged = (rule(place) for rule in _RULES for place in places)
    flaws = (flaw for flaw in (_type_flaw(expression), *judged) if flaw is not None)
    return next(flaws, None) or _collected(query, expression, places)


def _beyond_bounds(query: str) -> Flaw | None:
    cure = "write a shorter query, or record it with a recording rule and ask for that"
    if len(query) > LONGEST:
        return Flaw(f"has {len(query)} characters, allowed are {LONGEST}", cure)
    depth = deepest = operators = 0
    for token in _TOKEN.finditer(query):
        match token.lastgroup:
            case "open":
                depth += 1
                deepest = max(deepest, depth)
            case "close":
                # Never below zero: surplus closing brackets must not buy depth.
                depth = max(0, depth - 1)
            case "operator":
                operators += 1
    if deepest > DEEPEST:
        return Flaw(f"nests {deepest} brackets, allowed are {DEEPEST}", cure)
    if operators > OPERATORS:
        return Flaw(f"has {operators} operators, allowed are {OPERATORS}", cure)
    return None


@dataclass(frozen=True, slots=True)
class _Place:
    """One node of the expression and where it stands."""

    node: promql.Expr
    gate: bool = False
    """Right of `and` or `unless`: it chooses series and adds none."""
    removes: bool = False
    """Right of `unless`: without series it leaves the answer whole."""


def _places(node: promql.Expr) -> Iterator[_Place]:
    """Every node, parents first."""
    stack = [_Place(node)]
    while stack:
        place = stack.pop()
        yield place
        stack += reversed(list(_below(place)))


def _below(place: _Place) -> Iterator[_Place]:
    match place.node:
        case promql.BinaryExpr() as node:
            operator = _operator(node)
            yield replace(place, node=node.lhs)
            yield _Place(
                node.rhs,
                gate=place.gate or operator in {"and", "unless"},
                removes=place.removes or operator == "unless",
            )
        case promql.AggregateExpr() as node:
            if isinstance(node.param, promql.Expr):
                yield replace(place, node=node.param)
            yield replace(place, node=node.expr)
        case promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr() as node:
            yield replace(place, node=node.expr)
        case promql.MatrixSelector() as node:
            yield replace(place, node=node.vector_selector)
        case promql.Call() as node:
            yield from (replace(place, node=each) for each in node.args)
        case _:
            return


def _type_flaw(expression: promql.Expr) -> Flaw | None:
    node = expression
    while isinstance(node, promql.ParenExpr):
        node = node.expr
    if isinstance(node, promql.MatrixSelector | promql.SubqueryExpr):
        return Flaw("yields a range, not a value", "wrap it, as in max_over_time(…) or rate(…)")
    if isinstance(node, promql.StringLiteral):
        return Flaw("yields a text, not a value", "write a query that yields numbers")
    if not _has_selector(node):
        return Flaw("selects no metric, so it would always answer the same", "name a metric in it")
    return None


def _comparison_flaw(place: _Place) -> Flaw | None:
    node = place.node
    if place.gate or not isinstance(node, promql.BinaryExpr):
        return None
    operator = _operator(node)
    if operator not in _COMPARISONS or (node.modifier and node.modifier.return_bool):
        return None
    return Flaw(
        f"compares with {operator}, so that an empty answer would mean both fine and no data",
        f"let the query yield the value and compare in above or below, or write `{operator} bool`",
    )


def _substitute_flaw(place: _Place) -> Flaw | None:
    """Whatever answers a number where there is no data."""
    node = place.node
    cure = "leave it out and say in onNoData what missing data means"
    if isinstance(node, promql.Call) and node.func.name in _NO_DATA_FUNCTIONS:
        return Flaw(f"{node.func.name}() turns missing data into a value", cure)
    if not isinstance(node, promql.BinaryExpr):
        return None
    if _operator(node) == "or" and not (_has_selector(node.lhs) and _has_selector(node.rhs)):
        return Flaw("`or` with a constant turns missing data into a value", cure)
    fill = node.modifier.fill_values if node.modifier else None
    if fill and (fill.lhs is not None or fill.rhs is not None):
        return Flaw("fill() turns missing data into a value", cure)
    return None


def _time_flaw(place: _Place) -> Flaw | None:
    """Whatever looks at another moment than now or before now."""
    node = place.node
    if not isinstance(node, promql.VectorSelector | promql.SubqueryExpr):
        return None
    if node.at is not None:
        return Flaw("@ asks for a fixed moment, the answer never changes", "leave @ out")
    if node.offset is not None and node.offset < timedelta(0):
        return Flaw("a negative offset asks for the future", "write a positive offset or none")
    return None


def _selector_flaw(place: _Place) -> Flaw | None:
    node = place.node
    if not isinstance(node, promql.VectorSelector):
        return None
    if node.matchers.or_matchers:
        return Flaw("`or` inside braces is not Prometheus's", "write two selectors joined by or")
    if _metric(node) is None:
        return Flaw(
            f"{node.prettify()} names no metric, so the age of its samples cannot be asked",
            "name one metric",
        )
    return None


_RULES: tuple[Callable[[_Place], Flaw | None], ...] = (
    _substitute_flaw,
    _comparison_flaw,
    _time_flaw,
    _selector_flaw,
)


def _collected(query: str, expression: promql.Expr, places: tuple[_Place, ...]) -> Parsed | Flaw:
    numbers: dict[str, int] = {}
    needed = set()
    for place in places:
        if isinstance(place.node, promql.VectorSelector):
            number = numbers.setdefault(_without_time(place.node), len(numbers))
            if not place.removes:
                needed.add(number)
    if len(numbers) > SELECTORS:
        return Flaw(
            f"has {len(numbers)} different selectors, allowed are {SELECTORS}",
            "record parts of it with recording rules",
        )
    return Parsed(query, _is_scalar(expression), tuple(numbers), frozenset(needed))


def _metric(selector: promql.VectorSelector) -> str | None:
    if selector.name is not None:
        return selector.name
    for matcher in selector.matchers.matchers:
        if matcher.name == "__name__" and matcher.op == promql.MatchOp.Equal and matcher.value:
            return matcher.value
    return None


def _without_time(selector: promql.VectorSelector) -> str:
    """The selector without its offset, label values escaped (the parser's `str` does not)."""
    matchers = ",".join(
        f"{_label(each.name)}{_MATCH[str(each.op)]}{json.dumps(each.value, ensure_ascii=False)}"
        for each in selector.matchers.matchers
    )
    return (selector.name or "") + (f"{{{matchers}}}" if matchers else "")


def _label(name: str) -> str:
    return name if re.fullmatch("[a-zA-Z_][a-zA-Z0-9_]*", name) else json.dumps(name)


def _is_scalar(node: promql.Expr) -> bool:
    match node:
        case promql.NumberLiteral():
            return True
        case promql.ParenExpr() | promql.UnaryExpr():
            return _is_scalar(node.expr)
        case promql.BinaryExpr():
            return _is_scalar(node.lhs) and _is_scalar(node.rhs)
        case promql.Call():
            return bool(node.func.return_type == promql.ValueType.Scalar)
        case _:
            return False


def _has_selector(node: promql.Expr) -> bool:
    return any(isinstance(each.node, promql.VectorSelector) for each in _places(node))


def _operator(node: promql.BinaryExpr) -> str:
    return str(node.op).strip()


def _tagged(vector: str, kind: str) -> str:
    return f'label_replace({vector},"{KIND}","{kind}","","")'
