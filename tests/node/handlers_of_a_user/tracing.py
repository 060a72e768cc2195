"""Handlers whose jobs' story is told by traces."""

from opentelemetry import trace

from gopher_node import JobContext, handler

tracer = trace.get_tracer("a user's")


@handler("ship", max_retries=2)
async def ship(ctx: JobContext) -> None:
    """Fail once, then succeed, and have it told."""
    with tracer.start_as_current_span("pack"):
        ctx.logger.info("packed")
    if ctx.attempt == 1:
        raise OSError("the van is late")
    ctx.enqueue("tell")


@handler("tell", run="process")
def tell(ctx: JobContext) -> None:
    with tracer.start_as_current_span("write"):
        ctx.logger.info("told")
