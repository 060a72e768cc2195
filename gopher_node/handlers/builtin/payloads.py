"""What the payloads of all built-in handlers have in common."""

from __future__ import annotations

import math
from decimal import Decimal

from pydantic import BaseModel, ConfigDict

from gopher_node.errors import Fail

# Beyond it a double, which is all that many JSON readers have, no longer holds every integer.
MAX_EXACT = 2**53


class Payload(BaseModel):
    """Strict types, and no field that is not known: a misspelt option is refused rather than ignored."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


def exact(number: int | float) -> int | float | str:
    """A number as JSON can hold it: a large integer becomes text. Raises Fail for an infinite one."""
    if isinstance(number, float):
        if not math.isfinite(number):
            raise Fail("The result is larger than a floating-point number can be.", code="out-of-range")
        return number
    # By way of Decimal, for Python's own conversion refuses more than 4,300 digits.
    return number if abs(number) <= MAX_EXACT else str(Decimal(number))
