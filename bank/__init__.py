"""A bank of prompts to match a user's prompt against, or to draw from.

from bank import Bank

Bank.load().match("volcano", temperature=0).prompt
"""

from bank.matching import Candidate, Match
from bank.prompt_bank import Bank
from bank.store import Entry

__all__ = ["Bank", "Candidate", "Entry", "Match"]
