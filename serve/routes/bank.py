"""The prompt bank: nearest prompts, random prompts, categories."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from serve.choices import SPLITS
from serve.context import Context, Ctx
from serve.problems import ProblemError
from serve.schemas import MAX_SEED, Integer, Number, Text, Unit, choice

router = APIRouter(prefix="/bank", tags=["prompt bank"])
Split = choice("prompt_matching")
Category = Annotated[str, Field(min_length=1, max_length=100)]
Seed = Annotated[int | None, Query(ge=0, le=MAX_SEED)]


class MatchRequest(BaseModel):
    """What to look for."""

    model_config = ConfigDict(extra="forbid")

    prompt: Annotated[Text, Field(min_length=1)]
    k: Annotated[Integer, Field(ge=1, le=100)] = 5
    temperature: Annotated[Number, Field(ge=0, le=10)] = 0.0
    bank: Split = "train"
    category: Category | None = None
    diversity: Unit = 0.0
    min_similarity: Annotated[Number, Field(ge=-1, le=1)] | None = None
    seed: Annotated[Integer, Field(ge=0, le=MAX_SEED)] | None = None


class BankPrompt(BaseModel):
    """A prompt of the bank."""

    model_config = ConfigDict(extra="forbid")

    prompt: Annotated[Text, Field(min_length=1)]
    category: Category | None = None
    split: Split = "train"


def _bank(context: Context) -> Any:
    try:
        return context.bank()
    except (ImportError, OSError) as error:
        raise ProblemError(503, f"the prompt bank cannot be loaded: {error}") from error


@router.get("/categories")
def categories(context: Ctx) -> dict[str, list[str]]:
    """What the bank is divided into."""
    return {"categories": list(_bank(context).categories()), "splits": list(SPLITS)}


@router.post("/match")
def match(context: Ctx, request: MatchRequest) -> dict[str, list[dict[str, Any]]]:
    """The prompts nearest in meaning, best first."""
    wanted = {k: v for k, v in request.model_dump().items() if v is not None}
    matches = _ask(_bank(context).match, **wanted)
    return {
        "matches": [
            {"prompt": found.prompt, "score": float(found.score), "category": found.category}
            for found in matches
        ]
    }


@router.get("/random")
def random_prompt(
    context: Ctx,
    category: Annotated[str | None, Query(max_length=100)] = None,
    split: Split = "train",
    seed: Seed = None,
) -> dict[str, str | None]:
    """Any prompt of a category and split."""
    found = _ask(_bank(context).random_prompt, category=category, split=split, seed=seed)
    return {"prompt": found, "category": category, "split": split}


@router.post("/prompts", status_code=201)
def add(context: Ctx, request: BankPrompt) -> BankPrompt:
    """Adds a prompt."""
    if request.category is None:
        raise ProblemError(422, "category is required", "category")
    _ask(_bank(context).add, request.prompt, request.category, request.split)
    return request


@router.delete("/prompts", status_code=204)
def remove(context: Ctx, request: BankPrompt) -> None:
    """Removes a prompt."""
    if not _ask(_bank(context).remove, request.prompt, request.split):
        raise ProblemError(404, "the bank has no such prompt")


def _ask(method: Any, *args: Any, **kwargs: Any) -> Any:
    """The bank's own refusals name the parameter."""
    try:
        return method(*args, **kwargs)
    except ValueError as error:
        field = str(error).split(" ")[0]
        known = ("prompt", "category", "split", "bank", "min_similarity")
        raise ProblemError(422, str(error), field if field in known else None) from error
