"""The description that a package index shows: README, whose links lead into the repository.

An index has the text alone. `DG2_SOURCE_URL`, the repository's address on a host like GitHub, makes
links and pictures absolute; without it, pictures are left out and links become their text.
"""

import os
import re
from pathlib import Path

from setuptools import setup

_LINK = re.compile(r"(!?)\[([^]]*)\]\((?!https:)([^)]*)\)")


def description(readme: str, source: str, version: str) -> str:
    """README for an index.

    Args:
        readme: its text.
        source: the repository's address; empty if there is none.
        version: whose tag, such as v0.2.0, links lead to.
    """

    def absolute(match: re.Match[str]) -> str:
        picture, text, path = match.groups()
        if not source:
            return "" if picture else text
        kind = "raw" if picture else "blob"
        return f"{picture}[{text}]({source}/{kind}/v{version}/{path})"

    return re.sub(r"\n{3,}", "\n\n", _LINK.sub(absolute, readme))


if __name__ == "__main__":
    here = Path(__file__).parent
    code = (here / "dg2_jax" / "__init__.py").read_text("utf-8")
    version = re.search(r'^__version__ = "(.*)"', code, re.MULTILINE)[1]
    readme = (here / "README.md").read_text("utf-8")
    setup(
        long_description=description(readme, os.environ.get("DG2_SOURCE_URL", ""), version),
        long_description_content_type="text/markdown",
    )
