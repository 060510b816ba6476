import json
import subprocess
import sys
from pathlib import Path

import promql_parser
import pytest
from hypothesis import given
from hypothesis import strategies as st

from killswitch.adapters import promql
from killswitch.adapters.promql import PromqlChecker
from killswitch.core.errors import InvalidPolicyError
from tests.adapters.queries import GOOD

CHECKER = PromqlChecker()


def flaw(query: str) -> InvalidPolicyError:
    """The error for this query."""
    with pytest.raises(InvalidPolicyError) as caught:
        CHECKER.check("spec.signals[a].prometheus.query", query)
    assert caught.value.field == "spec.signals[a].prometheus.query"
    assert caught.value.cure
    return caught.value


@pytest.mark.parametrize(("query", "selectors"), GOOD.items(), ids=list(GOOD))
def test_good_queries(query: str, selectors: tuple[str, ...]) -> None:
    """Accepted, with their bare selectors, each once, in order of appearance."""
    assert selectors == promql.selectors(query)
    assert CHECKER.check("f", query)["selectors"] == " ".join(selectors)


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("", "is not PromQL"),
        ("sum(", "is not PromQL: unclosed left parenthesis"),
        ("nosuchfunction(a)", "unknown function"),
        ("a smoothed", "is not PromQL"),
        ("{}", "at least one non-empty matcher"),
        ('{job=""}', "at least one non-empty matcher"),
        ('{job="x"}', "names no metric"),
        ('{__name__=~"a|b"}', "names no metric"),
        ('{__name__!="a", job="x"}', "names no metric"),
        ('a{b="c" or d="e"}', "`or` inside braces"),
        ("1", "selects no metric"),
        ("vector(1)", "selects no metric"),
        ("time() - 5", "selects no metric"),
        ('"text"', "yields a text"),
        ("a[5m]", "yields a range"),
        ("(a[5m])", "yields a range"),
        ("a[5m:1m]", "yields a range"),
        ("a > 5", "compares with >"),
        ("((a)) != 5", "compares with !="),
        ("5 <= a", "compares with <="),
        ("a == b", "compares with =="),
        ("a > 5 or b > 5", "compares with >"),
        ("sum(a > 5)", "compares with >"),
        ("count(up == 0)", "compares with =="),
        ("-(a < 5)", "compares with <"),
        ("(a > 5) and b", "compares with >"),
        ("max_over_time((a > 5)[5m:])", "compares with >"),
        ("a or vector(0)", "`or` with a constant"),
        ("sum(a) or vector(time())", "`or` with a constant"),
        ("vector(0) or a", "`or` with a constant"),
        ("sum(b / (a or vector(1)))", "`or` with a constant"),
        ("a and (b or vector(1))", "`or` with a constant"),
        ("absent(a)", "absent() turns"),
        ("1 - absent(a)", "absent() turns"),
        ("a unless absent(b)", "absent() turns"),
        ("absent_over_time(a[5m])", "absent_over_time() turns"),
        ("a + fill(0) b", "fill() turns"),
        ("a + fill_right(0) b", "fill() turns"),
        ("a @ 1700000000", "fixed moment"),
        ("rate(a[5m] @ start())", "fixed moment"),
        ("max_over_time(a[5m:] @ end())", "fixed moment"),
        ("a offset -5m", "future"),
        ("rate(a[5m] offset -1s)", "future"),
        ("max_over_time(a[5m:] offset -5m)", "future"),
    ],
)
def test_refused(query: str, problem: str) -> None:
    """Whatever cannot work, or cannot tell fine from unknown, says what to write instead."""
    assert problem in str(flaw(query))


def test_a_comparison_right_of_and_is_a_gate() -> None:
    """It chooses series and is no verdict; the value still comes from the left."""
    assert promql.selectors("a and on() (b > 5)") == ("a", "b")
    assert "compares" in str(flaw("(a and b > 5) + (c > 1)"))


def test_every_selector_is_needed_but_those_right_of_unless() -> None:
    """Missing data can hide series anywhere else."""

    def needed(query: str) -> set[str]:
        found = promql.parsed(query)
        return {found.selectors[number] for number in found.needed}

    assert needed("a or b") == {"a", "b"}
    assert needed("a and b") == {"a", "b"}
    assert needed("a unless on() (b or c)") == {"a"}
    assert needed("a unless b + a") == {"a"}
    assert needed("(a unless b) / b") == {"a", "b"}


def test_measurement() -> None:
    """One query for the value and the age of each selector, told apart by a label."""
    assert promql.measurement("rate(a[1m] offset 5m) / b # per b") == (
        'label_replace(\nrate(a[1m] offset 5m) / b # per b\n,"__k","v","","")'
        ' or label_replace(max(time()-timestamp(a)),"__k","0","","")'
        ' or label_replace(max(time()-timestamp(b)),"__k","1","","")'
    )
    assert promql.measurement("scalar(a)").startswith("label_replace(\nvector(\nscalar(a)\n)\n,")


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1), st.text("ab.é"))
def test_selectors_keep_their_matchers(value: str, label: str) -> None:
    """Whatever stands in a label value or an exotic label name is asked about unchanged."""
    quoted, name = (json.dumps(each, ensure_ascii=False) for each in (value, "x" + label))
    text = f"m{{a={quoted},{name}!={quoted}}} offset 5m"
    (selector,) = promql.selectors(text)

    def matchers(query: str) -> list[tuple[str, str, str]]:
        node = promql_parser.parse(query)
        assert isinstance(node, promql_parser.VectorSelector)
        return [(each.name, str(each.op), each.value) for each in node.matchers.matchers]

    assert matchers(text) == matchers(selector)
    assert selector.endswith("}")


BOUNDED = {
    "x" * 4097: "has 4097 characters, allowed are 4096",
    "(" * 51 + "x" + ")" * 51: "nests 51 brackets, allowed are 50",
    "(" * 4096: "nests 4096 brackets",
    ")" * 51 + "(" * 51 + "x" + ")" * 51: "nests 51 brackets",
    "sum(" * 900 + "x": "nests 900 brackets",
    "x[" * 60: "nests 60 brackets",
    "-" * 4095 + "x": "has 4095 operators, allowed are 50",
    "- " * 51 + "x": "has 51 operators",
    "+".join(["x"] * 2000): "has 1999 operators",
    "^".join(["x"] * 52): "has 51 operators",
    " or ".join(["x"] * 600): "has 599 operators",
    " UNLESS ".join(["x"] * 52): "has 51 operators",
    'label_replace(x,"a",")","","")+' * 30 + 'label_join(x,")",' * 51: "nests 51 brackets",
}


@pytest.mark.parametrize(("query", "problem"), BOUNDED.items(), ids=range(len(BOUNDED)))
def test_bounds(query: str, problem: str) -> None:
    """Text is measured before the parser sees it; strings and comments hide no bracket."""
    assert problem in str(flaw(query))


def test_brackets_and_operators_in_strings_and_comments_do_not_count() -> None:
    """A label value may look like anything."""
    assert promql.selectors('a{b="' + "(-" * 100 + '"} # ' + "((+" * 100)
    assert promql.selectors("a{b='\\'" + "(" * 100 + "',c=`" + "[" * 100 + "`}")


def test_seventeen_selectors_are_too_many() -> None:
    """Each would be one more part of the request."""
    assert "has 17 different selectors" in str(flaw("+".join(f"m{n}" for n in range(17))))
    assert promql.selectors("+".join(["m"] * 17)) == ("m",)


SURVIVAL = """
import json, sys, threading
from killswitch.adapters.promql import PromqlChecker
from killswitch.core.errors import InvalidPolicyError

def judge_all():
    for query in json.load(sys.stdin):
        try:
            PromqlChecker().check("f", query)
        except InvalidPolicyError:
            pass
    print("survived")

threading.stack_size(256 * 1024)
thread = threading.Thread(target=judge_all)
thread.start()
thread.join()
"""


def test_no_text_ends_the_process() -> None:
    """Texts at the limits parse on a stack of 256 KiB, and those beyond never reach the parser."""
    limits = [
        "(" * 50 + "x" + ")" * 50,
        "-" * 50 + "x",
        "-(" * 50 + "x" + ")" * 50,
        "^".join(["x"] * 51),
        "-sum(" * 50 + "x" + ")" * 50,
        " or ".join(["sum(" * 49 + "x" + ")" * 49] * 20),
        "x" + "[5m:]" * 50,
        "x" + " offset 1m" * 400,
        "{" + ",".join(['a="b"'] * 600) + ',__name__="x"}',
        'x{a="' + "\\\\" * 2000 + '"}',
        '"' * 4096,
        "\x00" * 4096,
        "\U0001f600" * 4096,
    ]
    result = subprocess.run(
        [sys.executable, "-c", SURVIVAL],
        input=json.dumps([*limits, *BOUNDED]),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[2] / "operator",
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "survived\n", "")


WORDS = (
    "a b sum( rate( [5m] [5m:] ( ) { } \" ' ` , # + - ^ == > bool or and unless on() by(x) offset @"
    ' 5 5m time() vector( absent( __name__="x" =~ \\ é'
)
tokens = st.lists(st.sampled_from([*WORDS.split(), "\n"]), max_size=40)


@given(tokens)
def test_any_text_is_judged(given_: list[str]) -> None:
    """A verdict or an InvalidPolicyError, nothing else; what passes gives a query that parses."""
    query = " ".join(given_)
    try:
        CHECKER.check("f", query)
    except InvalidPolicyError:
        return
    promql_parser.parse(promql.measurement(query))


@pytest.mark.parametrize("query", GOOD)
def test_each_selector_names_its_metric(query: str) -> None:
    """A metric's name, whichever way it is written."""
    assert all(promql.metric(each) for each in promql.selectors(query))


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("sum(a) > 0 or vector(0)", ("a",)),
        ("absent(a) + rate(b[5m] offset 1m)", ("a", "b")),
        ('{"http.requests"}', ('{__name__="http.requests"}',)),
        ("vector(1)", ()),
        ('{job="a"} + b', ()),
        ("sum(", ()),
        ("(" * 51 + "a" + ")" * 51, ()),
    ],
)
def test_what_a_recording_rule_reads(rule: str, expected: tuple[str, ...]) -> None:
    """Rules may say what policies may not; nothing is claimed of what cannot be followed."""
    assert promql.read_by(rule) == expected
