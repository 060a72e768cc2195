"""The job type `math`: whole numbers without bounds on their results, and the usual sums."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BeforeValidator, Field

from gopher_node.errors import Fail
from gopher_node.handlers.builtin.payloads import Payload, exact

MAX_DIGITS = 1000
MAX_BITS = 500_000
# The first 13 primes as bases decide every number below this one (Sorenson & Webster, 2015).
PRIME_BASES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41)
PRIME_BOUND = 3_317_044_064_679_887_385_961_981


def _from_text(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    digits = value.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > MAX_DIGITS:
        raise ValueError(f"as text, an integer has 1 to {MAX_DIGITS} digits and nothing else but a minus sign")
    return int(value)


Whole = Annotated[int, BeforeValidator(_from_text, json_schema_input_type=int | str)]
"""An integer. JSON's have 64 bits here; a larger one is written as text."""

N = AliasChoices("n", "number", "value")
Number = Annotated[float, Field(allow_inf_nan=False)]


class Fibonacci(Payload):
    operation: Literal["fibonacci"]
    n: int = Field(ge=0, le=100_000, validation_alias=N)

    def solve(self) -> int:
        return _fibonacci(self.n)[0]


class Factorial(Payload):
    operation: Literal["factorial"]
    n: int = Field(ge=0, le=10_000, validation_alias=N)

    def solve(self) -> int:
        return math.factorial(self.n)


class IsPrime(Payload):
    operation: Literal["is_prime", "prime"]
    n: Whole = Field(lt=PRIME_BOUND, validation_alias=N)

    def solve(self) -> bool:
        return _is_prime(self.n)


class SquareRoot(Payload):
    operation: Literal["sqrt"]
    n: Whole | Number = Field(ge=0, validation_alias=N)

    def solve(self) -> int | float:
        if isinstance(self.n, int) and (root := math.isqrt(self.n)) ** 2 == self.n:
            return root
        return math.sqrt(self.n)


class Power(Payload):
    operation: Literal["power"]
    base: Whole | Number
    exponent: Whole | Number
    modulus: Whole | None = Field(None, description="The result is the remainder by it; all three are integers then.")

    def solve(self) -> int | float:
        base, exponent, modulus = self.base, self.exponent, self.modulus
        whole = isinstance(base, int) and isinstance(exponent, int)
        if modulus is not None:
            if not whole or modulus == 0:
                raise Fail("A power by a modulus takes integers, and a modulus that is not 0.", code="out-of-range")
            return pow(int(base), int(exponent), modulus)
        if whole and exponent >= 0:
            if int(base).bit_length() * int(exponent) > MAX_BITS and abs(base) > 1:
                raise Fail(f"The result would have more than {MAX_BITS:,} bits.", code="out-of-range")
            return int(base) ** int(exponent)
        result: float | complex = base**exponent
        if isinstance(result, complex):
            raise Fail("A negative number has no real power with that exponent.", code="out-of-range")
        return result


class OfTwo(Payload):
    operation: Literal["add", "subtract", "multiply", "divide", "modulo"]
    a: Whole | Number
    b: Whole | Number

    def solve(self) -> int | float:
        match self.operation:
            case "add":
                return self.a + self.b
            case "subtract":
                return self.a - self.b
            case "multiply":
                return self.a * self.b
            case "divide":
                return self.a / self.b
            case "modulo":
                return self.a % self.b


class OfIntegers(Payload):
    operation: Literal["gcd", "lcm"]
    numbers: list[Whole] = Field(min_length=1, max_length=1000, validation_alias=AliasChoices("numbers", "values"))

    def solve(self) -> int:
        return math.gcd(*self.numbers) if self.operation == "gcd" else math.lcm(*self.numbers)


class OfMany(Payload):
    operation: Literal["sum", "product", "mean", "min", "max"]
    numbers: list[Whole | Number] = Field(
        min_length=1, max_length=10_000, validation_alias=AliasChoices("numbers", "values")
    )

    def solve(self) -> int | float:
        match self.operation:
            case "sum":
                return self._sum()
            case "product":
                if sum(number.bit_length() for number in self.numbers if isinstance(number, int)) > MAX_BITS:
                    raise Fail(f"The result could have more than {MAX_BITS:,} bits.", code="out-of-range")
                return math.prod(self.numbers)
            case "mean":
                return self._sum() / len(self.numbers)
            case "min":
                return min(self.numbers)
            case "max":
                return max(self.numbers)

    def _sum(self) -> int | float:
        if all(isinstance(number, int) for number in self.numbers):
            return sum(self.numbers)
        return math.fsum(self.numbers)


Problem = Annotated[
    Fibonacci | Factorial | IsPrime | SquareRoot | Power | OfTwo | OfIntegers | OfMany,
    Field(discriminator="operation"),
]


def calculate(problem: Problem) -> dict[str, Any]:
    """Calculate: fibonacci, factorial, is_prime, sqrt, power, gcd, lcm, sum, product, mean, add, divide and others."""
    try:
        result = problem.solve()
    except ZeroDivisionError:
        raise Fail("Nothing can be divided by 0.", code="out-of-range") from None
    except OverflowError:
        raise Fail("The result is larger than a floating-point number can be.", code="out-of-range") from None
    except ValueError as error:
        raise Fail(f"{problem.operation} is not possible here: {error}.", code="out-of-range") from None
    return {"operation": problem.operation, "result": exact(result)}


def _fibonacci(n: int) -> tuple[int, int]:
    """F(n) and F(n + 1), by doubling."""
    if n == 0:
        return 0, 1
    a, b = _fibonacci(n // 2)
    c = a * (2 * b - a)
    d = a * a + b * b
    return (d, c + d) if n % 2 else (c, d)


def _is_prime(n: int) -> bool:
    """Miller and Rabin's test, which decides below PRIME_BOUND."""
    if n < 2:
        return False
    for prime in PRIME_BASES:
        if n % prime == 0:
            return n == prime
    odd, twos = n - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in PRIME_BASES:
        power = pow(base, odd, n)
        if power in (1, n - 1):
            continue
        if not any((power := power * power % n) == n - 1 for _ in range(twos - 1)):
            return False
    return True
