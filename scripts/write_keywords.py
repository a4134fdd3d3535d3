"""Writes the controls as keyword arguments for type checkers: python -m scripts.write_keywords.

Run it after declaring a control in `dg2_jax.settings`; `tests/test_settings.py` tells when it is
due. The file is `dg2_jax/controls/keywords.py`.
"""

import textwrap
from pathlib import Path
from types import GenericAlias
from typing import Any

from dg2_jax.controls import declaration
from dg2_jax.controls.declaration import Control
from dg2_jax.settings import NAMED, SAMPLER_GROUPS, Settings

PATH = Path(__file__).resolve().parents[1] / "dg2_jax" / "controls" / "keywords.py"
_HEAD = '''"""The controls as keyword arguments, for type checkers.

`python -m scripts.write_keywords` writes this file from the declarations in `dg2_jax.settings`.
"""

from collections.abc import Sequence
from typing import TypedDict
'''
_CLASS = '''

class {name}({base}, total=False):
    """What `{of}` takes besides the parameters that it names."""

{fields}
'''


def source() -> str:
    """The text of the file."""
    controls = {
        name: entry for name, entry in declaration.of(Settings).items() if name not in NAMED
    }
    sampler = {name: e for name, e in controls.items() if e.group in SAMPLER_GROUPS}
    others = {name: entry for name, entry in controls.items() if name not in sampler}
    classes = (
        ("SamplerControls", "TypedDict", "Pipeline.sampler", sampler),
        ("Controls", "SamplerControls", "Pipeline", others),
    )
    return _HEAD + "".join(
        _CLASS.format(name=name, base=base, of=of, fields="\n".join(map(_field, entries.values())))
        for name, base, of, entries in classes
    )


def _field(control: Control) -> str:
    indent = " " * 4
    lines = textwrap.wrap(f'"""{control.help}"""', 96)
    documented = f"\n{indent}".join(lines)
    return f"{indent}{control.name}: {_written(control.python)}\n{indent}{documented}"


def _written(kind: Any) -> str:
    """A type as source text."""
    plain = isinstance(kind, type) and not isinstance(kind, GenericAlias)
    return kind.__name__ if plain else str(kind).replace("collections.abc.", "")


if __name__ == "__main__":
    PATH.write_text(source(), encoding="utf-8")
    print(PATH)
