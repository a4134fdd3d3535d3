"""ControlNets of a model, by path, hub id, or name in a folder, the last few kept in memory."""

from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

from dg2_jax.checks import ParameterError
from dg2_jax.interop import recognition
from dg2_jax.interop.recognition import Kind
from dg2_jax.models import stable_diffusion
from dg2_jax.models.model import Model, Network, Params
from dg2_jax.nn.precision import with_compute_dtype
from dg2_jax.recent import recall

_KEPT = 2


class Control(NamedTuple):
    """A ControlNet.

    Attributes:
        network: its structure; bound, it is a `dg2_jax.nn.sd_controlnet.ControlNet`.
        params: its weights.
    """

    network: Network
    params: Params


class ControlNets:
    """The ControlNets that calls name, each read when it is first asked for."""

    def __init__(self, folder: str | Path | None = None):
        """`folder` holds some, which calls may name without it."""
        self._folder = None if folder is None else Path(folder).expanduser()
        self._loaded: OrderedDict[tuple, Control] = OrderedDict()

    def names(self) -> dict[str, Path]:
        """Those of the folder."""
        paths: dict[str, Path] = {}
        here = self._folder is not None and self._folder.is_dir()
        for path in sorted(self._folder.iterdir()) if here and self._folder else ():
            if recognition.kind_of(path) is Kind.CONTROLNET:
                paths.setdefault(path.name if path.is_dir() else path.stem, path)
        return paths

    def get(self, name: str, model: Model) -> Control:
        """A ControlNet for a model.

        Raises:
            ParameterError: there is none, it is damaged, or it is for another model.
        """
        source = self.names().get(name, name)
        # What is loaded depends on the model's shape alone, and on the files as they are now.
        key = (str(source), _stamp(Path(source).expanduser()), model.denoiser_config)

        def read() -> Control:
            # Late: they import Flax.
            from dg2_jax.interop.stable_diffusion.controlnet import Controlled, read_controlnet
            from dg2_jax.nn.modules import split  # likewise

            factor = model.autoencoder_config.downsampling_factor
            known = Controlled(model.name, model.denoiser_config, factor)
            try:
                _, network = read_controlnet(source, known)
            except (ValueError, OSError) as error:
                raise ParameterError("controlnet", f"cannot be used: {error}") from error
            return Control(*split(with_compute_dtype(network, stable_diffusion.compute_dtype())))

        return recall(self._loaded, key, read, _KEPT)


def _stamp(path: Path) -> tuple[tuple[str, int], ...]:
    """Changes where a file, or a file of a folder, has changed; empty where it is not here."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return tuple((file.name, file.stat().st_mtime_ns) for file in files if file.is_file())
