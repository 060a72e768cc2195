"""The job type `math`."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gopher_node.errors import Fail
from gopher_node.handlers import InvalidPayload
from gopher_node.handlers.builtin.arithmetic import PRIME_BOUND, IsPrime
from tests.handlers.conftest import Node


@pytest.mark.parametrize(
    ("problem", "result"),
    [
        ({"operation": "fibonacci", "n": 0}, 0),
        ({"operation": "fibonacci", "n": 30}, 832040),
        ({"operation": "fibonacci", "number": 78}, 8944394323791464),
        ({"operation": "fibonacci", "value": 100}, "354224848179261915075"),
        ({"operation": "factorial", "n": 10}, 3628800),
        ({"operation": "factorial", "n": 25}, "15511210043330985984000000"),
        ({"operation": "is_prime", "n": 97}, True),
        ({"operation": "is_prime", "n": 3215031751}, False),
        ({"operation": "is_prime", "n": "18446744073709551557"}, True),
        ({"operation": "is_prime", "n": "318665857834031151167461"}, False),
        ({"operation": "is_prime", "n": -7}, False),
        ({"operation": "gcd", "numbers": [84, 30]}, 6),
        ({"operation": "lcm", "values": [4, 6, 10]}, 60),
        ({"operation": "sum", "numbers": [1, 2, 3.5]}, 6.5),
        ({"operation": "sum", "numbers": [0.1] * 10}, 1.0),
        ({"operation": "mean", "numbers": [1, 2, 6]}, 3.0),
        ({"operation": "product", "numbers": [2, 3, 4]}, 24),
        ({"operation": "min", "numbers": [2, -3.5]}, -3.5),
        ({"operation": "max", "numbers": ["-5", 2]}, 2),
        ({"operation": "sqrt", "n": 144}, 12),
        ({"operation": "sqrt", "n": 2}, math.sqrt(2)),
        ({"operation": "power", "base": 2, "exponent": 64}, "18446744073709551616"),
        ({"operation": "power", "base": 2, "exponent": -1}, 0.5),
        ({"operation": "power", "base": 3, "exponent": "1000000000000000000000", "modulus": 7}, 4),
        ({"operation": "add", "a": 1, "b": 2}, 3),
        ({"operation": "subtract", "a": 1, "b": 2.5}, -1.5),
        ({"operation": "multiply", "a": "9007199254740993", "b": 1}, "9007199254740993"),
        ({"operation": "divide", "a": 1, "b": 4}, 0.25),
        ({"operation": "modulo", "a": 7, "b": 4}, 3),
    ],
)
def test_problem_is_solved(node: Node, problem: dict[str, Any], result: Any) -> None:
    """Each operation gives its result; beyond 2 ** 53 it is text, which no JSON reader rounds."""
    answer = node.call("math", problem)

    assert {"operation": problem["operation"], "result": result} == answer
    assert type(result) is type(answer["result"])


def test_largest_problems_are_solved(node: Node) -> None:
    """Results of tens of thousands of digits are whole."""
    fibonacci = (node.call("math", {"operation": "fibonacci", "n": 100_000}))["result"]
    factorial = (node.call("math", {"operation": "factorial", "n": 10_000}))["result"]

    assert (len(fibonacci), fibonacci[:10], fibonacci[-10:]) == (20899, "2597406934", "3428746875")
    assert (len(factorial), factorial[:10]) == (35660, "2846259680")


@pytest.mark.parametrize(
    "problem",
    [
        {"operation": "divide", "a": 1, "b": 0},
        {"operation": "power", "base": 0, "exponent": -1},
        {"operation": "power", "base": -2, "exponent": 0.5},
        {"operation": "power", "base": 10, "exponent": 999_999_999},
        {"operation": "power", "base": 2.0, "exponent": 5000},
        {"operation": "power", "base": 2, "exponent": 3, "modulus": 0},
        {"operation": "power", "base": 2, "exponent": -1, "modulus": 4},
        {"operation": "product", "numbers": [1e300, 1e300]},
        {"operation": "sum", "numbers": [1.7e308, 1.7e308]},
        {"operation": "sqrt", "n": "9" * 700 + "7"},
    ],
)
def test_impossible_problem_fails_for_good(node: Node, problem: dict[str, Any]) -> None:
    """What no repetition can solve is a permanent failure."""
    with pytest.raises(Fail) as failed:
        node.call("math", problem)

    assert failed.value.code == "out-of-range"


@pytest.mark.parametrize(
    ("problem", "pointer", "code"),
    [
        ({}, "/operation", "missing"),
        ({"operation": "integrate"}, "/operation", "enum"),
        ({"operation": "fibonacci"}, "/n", "missing"),
        ({"operation": "fibonacci", "n": 100_001}, "/n", "less-than-equal"),
        ({"operation": "fibonacci", "n": -1}, "/n", "greater-than-equal"),
        ({"operation": "fibonacci", "n": True}, "/n", "int-type"),
        ({"operation": "fibonacci", "n": 1, "x": 2}, "/x", "unknown-field"),
        ({"operation": "is_prime", "n": str(PRIME_BOUND)}, "/n", "less-than"),
        ({"operation": "is_prime", "n": "1e5"}, "/n", "value-error"),
        ({"operation": "is_prime", "n": "9" * 1001}, "/n", "value-error"),
        ({"operation": "gcd", "numbers": []}, "/numbers", "too-short"),
    ],
)
def test_bad_problem_is_refused(node: Node, problem: dict[str, Any], pointer: str, code: str) -> None:
    """The mistake is named by its place and kind."""
    with pytest.raises(InvalidPayload) as refused:
        node.call("math", problem)

    assert [(pointer, code)] == [(error["pointer"], error["code"]) for error in refused.value.errors]


@settings(deadline=None)
@given(st.integers(min_value=0, max_value=2_000_000))
def test_primes_are_those_of_trial_division(n: int) -> None:
    """The test by Miller and Rabin agrees with the definition."""
    divisible = any(n % divisor == 0 for divisor in range(2, math.isqrt(n) + 1))

    assert (n >= 2 and not divisible) == IsPrime(operation="is_prime", n=n).solve()
