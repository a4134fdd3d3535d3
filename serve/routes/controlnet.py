"""What A1111's extension for ControlNets lists; its units come with `alwayson_scripts`."""

from typing import Any

from dg2_jax.pictures.edges import PREPROCESSORS
from dg2_jax.serve.context import Ctx
from dg2_jax.serve.routing import Router

VERSION = 2  # of the extension's API, whose units have an `image`

router = Router(tags=["A1111"])


@router.get("/version")
def controlnet_version() -> dict[str, int]:
    """The version of the extension's API."""
    return {"version": VERSION}


@router.get("/model_list")
def controlnet_models(context: Ctx) -> dict[str, list[str]]:
    """The ControlNets of the server's folder."""
    return {"model_list": list(context.controlnets.names())}


@router.get("/module_list")
def controlnet_modules() -> dict[str, Any]:
    """The preprocessors; none has a value to set, none works without a ControlNet."""
    names = ["none", *PREPROCESSORS]
    detail = {name: {"model_free": False, "sliders": []} for name in names}
    return {"module_list": names, "module_detail": detail}


@router.get("/settings")
def controlnet_settings() -> dict[str, int]:
    """How many units a request may have."""
    return {"control_net_unit_count": 1}
