"""What an operator chooses: environment variables DG2_* and the flags of the same names."""

import contextlib
import ipaddress
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from dg2_jax.serve.database import LEASE_SECONDS, in_folder
from dg2_jax.serve.sizes import SizeText


def is_loopback(host: str) -> bool:
    """Whether an address to listen on can be reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _split(value: Any) -> Any:
    """A list written as text: with commas, or as JSON."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        with contextlib.suppress(ValueError):  # [::1] is an address
            return json.loads(value)
    return [part for part in (text.strip() for text in value.split(",")) if part]


Names = Annotated[list[str], NoDecode, BeforeValidator(_split)]
Sizes = Annotated[list[SizeText], NoDecode, BeforeValidator(_split)]


class ServerSettings(BaseSettings):
    """What an operator may choose; a wrong value is one clear error at the start."""

    model_config = SettingsConfigDict(env_prefix="DG2_", extra="forbid")

    host: str = Field("127.0.0.1", description="address to listen on; others need an API key")
    port: int = Field(8000, ge=0, le=65535, description="port; 0 takes a free one")
    api_key: SecretStr | None = Field(None, min_length=8, description="what clients must show")
    model: str = Field(
        "demo",
        description="the default model: an embedded one's name, a model folder, or Stable "
        "Diffusion (a diffusers folder, a hub id, one file); more of them after commas",
    )
    quantize: Literal["bfloat16", "int8", "float8_e4m3fn"] | None = Field(
        None, description="dtype to keep the denoisers' weights in"
    )
    models_dir: Path | None = Field(None, description="a folder of more models: folders and files")
    upscalers_dir: Path | None = Field(
        None, description="a folder of official Real-ESRGAN files, or RealESRGAN_x2plus.pth itself"
    )
    loras: Path | None = Field(
        None, description="a folder of LoRA files, which prompts name: <lora:name:0.8>"
    )
    embeddings: Path | None = Field(
        None, description="a folder of textual-inversion embeddings, whose names are words"
    )
    controlnets: Path | None = Field(None, description="a folder of ControlNets")
    wildcards: Path | None = Field(
        None, description="a folder of lists, one text per line, which prompts name: __season__"
    )
    data: Path = Field(Path("outputs/server"), description="where jobs and pictures are kept")
    database: SecretStr | None = Field(
        None,
        description="where jobs are kept instead: postgresql+psycopg://USER:PASSWORD@HOST/NAME",
    )
    pictures: str | None = Field(
        None,
        description="where pictures are kept instead of the data folder: another folder, which "
        "processes on other machines share, or an object store, s3://BUCKET/PATH",
    )
    workers: int = Field(
        1,
        ge=0,
        le=1,
        description="whether this process computes too; 0: others do, dg2 worker, on "
        "the same PostgreSQL",
    )
    metrics_port: int | None = Field(
        None, ge=1, le=65535, description="where a worker's process tells its metrics"
    )
    lease_seconds: float = Field(
        LEASE_SECONDS, ge=1, description="after which a worker that tells nothing is taken for dead"
    )
    allowed_hosts: Names = Field([], description="more names that this server goes by")
    allowed_origins: Names = Field([], description="other sites whose pages may call it")
    sizes: Sizes = Field(
        [], description="sizes of pictures, as 160x96; none: the models' own and a few of its area"
    )
    queue_limit: int = Field(256, ge=1, description="jobs that may wait in all")
    client_limit: int = Field(64, ge=1, description="jobs of one client that may wait")
    max_images: int = Field(64, ge=1, le=256, description="pictures of a job")
    max_batch: int = Field(8, ge=1, le=16, description="guided pictures that are computed together")
    batching: Literal["steps", "calls"] = Field(
        "steps",
        description="who is computed together: pictures with any settings, step by step, or the "
        "pictures of jobs that agree in all of them, call by call",
    )
    max_body_mb: float = Field(32, gt=0, description="size of a request")
    max_pixels: int = Field(1 << 24, ge=1, description="pixels of an uploaded picture")
    max_upscale_pixels: int = Field(1 << 20, ge=1, description="pixels of a picture to enlarge")
    max_loaded_models: int = Field(2, ge=1, description="models kept in memory")
    request_seconds: float = Field(
        20, gt=0, description="what a client may take for headers, and for each 16 kB of a body"
    )
    legacy_api: bool = Field(False, description="offer DiffusionGen2's own endpoints as well")
    warmup: bool = Field(True, description="compile in the background at the start")
    drain_seconds: float = Field(20, ge=0, description="what a running batch gets at SIGTERM")

    @field_validator("database")
    @classmethod
    def _known_kind(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            try:
                kind = sa.make_url(value.get_secret_value()).drivername
            except sa.exc.ArgumentError:
                kind = None
            if kind != "postgresql+psycopg":
                raise ValueError("must be like postgresql+psycopg://USER:PASSWORD@HOST/NAME")
        return value

    @model_validator(mode="after")
    def _key_where_reachable(self) -> "ServerSettings":
        if not is_loopback(self.host) and self.api_key is None:
            raise ValueError(
                f"host {self.host} can be reached from other machines, which needs an API key: "
                "set DG2_API_KEY"
            )
        return self

    @model_validator(mode="after")
    def _shared_where_apart(self) -> "ServerSettings":
        if self.workers == 0 and self.database is None:
            raise ValueError("workers may be 0 only with jobs in PostgreSQL: set DG2_DATABASE")
        return self

    @property
    def database_url(self) -> str | sa.URL:
        """Where jobs are kept."""
        return self.database.get_secret_value() if self.database else in_folder(self.data)

    @property
    def key(self) -> str | None:
        """The API key as text, None where none is needed."""
        return self.api_key.get_secret_value() if self.api_key else None
