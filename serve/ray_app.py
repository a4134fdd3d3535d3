"""The server on Ray Serve: `serve run dg2_jax.serve.ray_app:app max_replicas=4 num_gpus=1`.

Replicas of a worker take pictures from PostgreSQL as `dg2 worker` does, and the interface is as of
`dg2 serve --workers=0`. Ray places, watches and multiplies them; jobs are in the database alone, so
that what Ray loses is computed again. Settings are DG2_* variables.
"""

import asyncio
import math
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy

from dg2_jax.serve import observe, parts
from dg2_jax.serve.models import Loader
from dg2_jax.serve.server_settings import ServerSettings

_HEALTH_SECONDS = 10
_STOP_SECONDS = 15  # for what follows a drain


class Scale(BaseModel):
    """How many replicas of what size; arguments of `app`."""

    model_config = ConfigDict(extra="forbid")

    min_replicas: int = Field(1, ge=1, description="workers that are always there")
    max_replicas: int = Field(1, ge=1, description="workers when many pictures wait")
    pictures_per_replica: float = Field(
        32, gt=0, description="unfinished pictures for which there is to be one worker"
    )
    upscale_seconds: float = Field(10, ge=0, description="for which more must be wanted")
    downscale_seconds: float = Field(300, ge=0, description="for which fewer must be wanted")
    num_gpus: float = Field(0, ge=0, description="of a worker, which divides batches over them")
    num_cpus: float = Field(1, ge=0, description="of a worker")
    resources: dict[str, float] = Field({}, description='of a worker, {"TPU": 4} say')
    api_replicas: int = Field(1, ge=1, description="processes that answer")


class Worker:
    """A replica that computes, see `dg2_jax.serve.fleet.process`."""

    def __init__(
        self,
        settings: ServerSettings,
        pictures_per_replica: float,
        load: Loader | None = None,
        upscale: parts.Upscale = parts.upscale,
    ):
        from dg2_jax.serve.fleet import process  # the driver needs no JAX

        observe.configure_logging()
        self._settings, self._share = settings, pictures_per_replica
        self._engine = process.engine(settings, load, upscale)
        self._engine.start()

    def check_health(self) -> None:
        """Raises RuntimeError where the replica has to be replaced; Ray calls it."""
        if (reason := self._engine.failure) is not None:
            raise RuntimeError(reason)

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """The number of replicas that the queue is worth; Ray calls it."""
        return {"wanted": await asyncio.to_thread(self._engine.demand) / self._share}

    async def __del__(self) -> None:
        if hasattr(self, "_engine"):
            await asyncio.to_thread(self._engine.drain, self._settings.drain_seconds)


@serve.ingress()
class Api:
    """A replica that answers, see `dg2_jax.serve.app`."""

    def __init__(self, settings: ServerSettings, workers: Any):
        observe.configure_logging()
        self._settings = settings

    def __serve_build_asgi_app__(self) -> FastAPI:
        from dg2_jax.serve.app import create_app  # the driver needs no JAX

        return create_app(self._settings)


def replicas(context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
    """As many replicas as the queue is worth, as those say that can see it; else as many as now."""
    told = (context.aggregated_metrics or {}).get("wanted", {}).values()
    return math.ceil(max(told, default=context.target_num_replicas)), {}


def application(
    settings: ServerSettings,
    scale: Scale,
    load: Loader | None = None,
    upscale: parts.Upscale = parts.upscale,
) -> Application:
    """Workers, and the interface as their ingress; `load` and `upscale` as of `process.engine`."""
    scaling = AutoscalingConfig(
        min_replicas=scale.min_replicas,
        max_replicas=scale.max_replicas,
        upscale_delay_s=scale.upscale_seconds,
        downscale_delay_s=scale.downscale_seconds,
        policy=AutoscalingPolicy(policy_function=replicas),
    )
    workers = serve.deployment(
        autoscaling_config=scaling,
        health_check_period_s=_HEALTH_SECONDS,
        graceful_shutdown_timeout_s=settings.drain_seconds + _STOP_SECONDS,
        ray_actor_options={
            "num_cpus": scale.num_cpus,
            "num_gpus": scale.num_gpus,
            "resources": scale.resources,
        },
    )(Worker)
    api = serve.deployment(
        num_replicas=scale.api_replicas,
        max_ongoing_requests=1000,  # event streams last as long as their jobs
        graceful_shutdown_timeout_s=settings.drain_seconds + _STOP_SECONDS,
    )(Api)
    return api.bind(settings, workers.bind(settings, scale.pictures_per_replica, load, upscale))


def app(scale: Scale) -> Application:
    """The application that `serve run` and `serve deploy` begin.

    Raises:
        ValidationError: DG2_DATABASE or DG2_API_KEY is missing (Ray's proxies may be reached from
            other machines), or another setting is wrong.
    """
    return application(ServerSettings(host="0.0.0.0", workers=0), scale)
