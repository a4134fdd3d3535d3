"""What A1111's extension for ControlNets lists; its units come with `alwayson_scripts`."""

from typing import Any

from fastapi import APIRouter

from dg2_jax.pictures.edges import PREPROCESSORS
from serve.context import Ctx

router = APIRouter(tags=["A1111"])


@router.get("/model_list")
def model_list(context: Ctx) -> dict[str, list[str]]:
    """The ControlNets of the server's folder."""
    return {"model_list": list(context.controlnets.names())}


@router.get("/module_list")
def module_list() -> dict[str, Any]:
    """The preprocessors."""
    return {"module_list": ["none", *PREPROCESSORS]}
