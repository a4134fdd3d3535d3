"""A bank of prompts to match a user's prompt against, or to draw from.

from dg2_jax.bank import Bank

Bank.load().match("volcano", temperature=0).prompt
"""

from dg2_jax.bank.matching import Candidate, Match
from dg2_jax.bank.prompt_bank import Bank
from dg2_jax.bank.store import Entry

__all__ = ["Bank", "Candidate", "Entry", "Match"]
