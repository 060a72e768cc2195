"""Handlers whose jobs must not be run as the node's settings would have it."""

from pydantic import BaseModel

from gopher_node import Retry, handler


class Payment(BaseModel):
    """What is to be paid."""

    amount: int


@handler("pay", max_retries=0, priority="low", timeout="20s", concurrency=3, description="Pays once.")
async def pay(payload: Payment) -> None:
    raise Retry("the bank does not answer", after=0.01)
