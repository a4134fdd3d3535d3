"""The queue of the client that asks: held, ordered, cleared."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from dg2_jax.serve.context import Client, Context, Ctx
from dg2_jax.serve.routes.jobs import view
from dg2_jax.serve.routing import Router
from dg2_jax.serve.views import QueueView

router = Router(prefix="/queue", tags=["jobs"])


class Pause(BaseModel):
    """Whether the client's jobs wait until they are resumed."""

    model_config = ConfigDict(extra="forbid")

    paused: bool


class Order(BaseModel):
    """Jobs that wait, in the order wanted."""

    model_config = ConfigDict(extra="forbid")

    jobs: Annotated[list[str], Field(max_length=1000)]


def _view(context: Context, client: str) -> QueueView:
    queues = context.engine.queues
    shown = [view(context, job) for job in context.store.jobs_by_id(queues.jobs(client))]
    return {"paused": queues.paused(client), "jobs": shown}  # type: ignore[typeddict-item]


@router.get("")
def get_queue(context: Ctx, client: Client) -> QueueView:
    """The client's unfinished jobs: those that run, then the others in their order."""
    return _view(context, client)


@router.patch("")
def pause_queue(context: Ctx, client: Client, asked: Pause) -> QueueView:
    """Holds the client's jobs, or lets them go on; a batch that runs is finished."""
    context.engine.queues.pause(client, asked.paused)
    return _view(context, client)


@router.put("/order")
def order_queue(context: Ctx, client: Client, asked: Order) -> QueueView:
    """Puts the client's waiting jobs in an order; those not named come after."""
    context.engine.queues.arrange(client, asked.jobs)
    return _view(context, client)


@router.delete("")
def clear_queue(context: Ctx, client: Client) -> QueueView:
    """Cancels the client's jobs that do not run."""
    context.engine.queues.clear(client)
    return _view(context, client)
