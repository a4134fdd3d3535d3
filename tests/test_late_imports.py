"""No import inside a function goes without its reason."""

import pytest

from dg2_jax.scripts import late_imports

SOURCE = """
import dg2_jax.files
from dg2_jax.serve import app


def plain():
    from dg2_jax import Pipeline
    import numpy
    import dg2_jax.files, json  # noqa: F401


class Lazy:
    async def load(self):
        # bank takes a second to import
        from dg2_jax.bank import Bank
        from dg2_jax.models import (
            folder,  # only with --model
        )
        from . import sibling
"""


def test_those_without_a_reason_are_seen():
    actual = [(late.module, late.reason) for late in late_imports.late_imports(SOURCE)]
    assert actual == [
        ("dg2_jax", ""),
        ("dg2_jax.files", ""),
        ("dg2_jax.bank", "bank takes a second to import"),
        ("dg2_jax.models", "only with --model"),
        (".", ""),
    ]


def test_the_project_has_none_without_a_reason(capsys):
    with pytest.raises(SystemExit) as ended:
        late_imports.main()
    assert ended.value.code is None, capsys.readouterr().out
