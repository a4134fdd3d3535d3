"""The prompt bank: nearest prompts, random prompts, categories."""

from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from dg2_jax.checks import ParameterError
from dg2_jax.controls.values import Real
from dg2_jax.serve.context import Context, Ctx
from dg2_jax.serve.job_controls import SPLITS
from dg2_jax.serve.problems import ProblemError
from dg2_jax.serve.routes.jobs import Limit, Search
from dg2_jax.serve.routing import Router
from dg2_jax.serve.schemas import Count, Split, Text, checked
from dg2_jax.serve.schemas import Seed as SeedValue
from dg2_jax.settings import MAX_SEED

router = Router(prefix="/bank", tags=["prompt bank"])
Category = Annotated[str, Field(min_length=1, max_length=100)]
Seed = Annotated[int | None, Query(ge=0, le=MAX_SEED)]


class MatchRequest(BaseModel):
    """What to look for."""

    model_config = ConfigDict(extra="forbid")

    prompt: Annotated[Text, Field(min_length=1)]
    k: Count = 5
    temperature: Annotated[float, checked(Real(0.0, 100.0))] = 0.0
    bank: Split = "train"
    category: Category | None = None
    diversity: Annotated[float, checked(Real(0.0, 1.0))] = 0.0
    min_similarity: Annotated[float, checked(Real(-1.0, 1.0))] | None = None
    seed: SeedValue | None = None


class Candidate(BaseModel):
    """A prompt of the bank that is close to the one asked about."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    prompt: str
    category: str
    split: str
    score: float = Field(description="cosine, -1 to 1")
    probability: float = Field(description="of being chosen at the temperature")


class MatchAnswer(BaseModel):
    """The candidates, best first, and the choice among them."""

    prompt: str = Field(description="what to use: the chosen prompt, or the one asked about")
    matched: bool = Field(description="whether a candidate was similar enough to be chosen")
    seed: int = Field(description="of the choice")
    matches: list[Candidate]


class NewPrompt(BaseModel):
    """A prompt to add."""

    model_config = ConfigDict(extra="forbid")

    prompt: Annotated[Text, Field(min_length=1)]
    category: Category
    split: Split = "train"


class StoredPrompt(NewPrompt):
    """A prompt of the bank."""

    model_config = ConfigDict(from_attributes=True)

    id: str


class PromptPage(BaseModel):
    """Some of the prompts, and how many there are in all."""

    prompts: list[StoredPrompt]
    total: int


def _bank(context: Context) -> Any:
    try:
        return context.bank()
    except (ImportError, OSError) as error:
        raise ProblemError(503, f"the prompt bank cannot be loaded: {error}") from error


@router.get("/categories")
def list_categories(context: Ctx) -> dict[str, list[str]]:
    """What the bank is divided into."""
    return {"categories": list(_bank(context).categories()), "splits": list(SPLITS)}


@router.post("/match")
def match_prompt(context: Ctx, request: MatchRequest) -> MatchAnswer:
    """The prompts nearest in meaning, best first, and one of them chosen."""
    given = {name: value for name, value in request.model_dump().items() if value is not None}
    result = _ask(_bank(context).match, **given)
    return MatchAnswer(
        prompt=result.prompt,
        matched=result.chosen is not None,
        seed=result.seed,
        matches=[Candidate.model_validate(candidate) for candidate in result.candidates],
    )


@router.get("/random")
def random_prompt(
    context: Ctx,
    category: Annotated[str | None, Query(max_length=100)] = None,
    split: Split = "train",
    seed: Seed = None,
) -> dict[str, str | None]:
    """Any prompt of a category and split."""
    prompt = _ask(_bank(context).random_prompt, category=category, split=split, seed=seed)
    return {"prompt": prompt, "category": category, "split": split}


@router.get("/prompts")
def list_prompts(
    context: Ctx,
    q: Search = None,
    category: Annotated[str | None, Query(max_length=100)] = None,
    split: Split = "train",
    limit: Limit = 50,
    offset: Annotated[int, Query(ge=0, le=2**31)] = 0,
) -> PromptPage:
    """The prompts of a split and category that contain `q`; of a category, the last added first."""
    sought = (q or "").casefold()
    matching = [
        entry
        for entry in reversed(_bank(context).entries(split=split))
        if category in (None, entry.category) and sought in entry.prompt.casefold()
    ]
    page = [StoredPrompt.model_validate(entry) for entry in matching[offset : offset + limit]]
    return PromptPage(prompts=page, total=len(matching))


@router.post("/prompts", status_code=201)
def add_prompt(context: Ctx, request: NewPrompt) -> StoredPrompt:
    """Adds a prompt, which stays over restarts."""
    bank = _bank(context)
    ids = _ask(bank.add, [request.prompt], request.category, request.split)
    try:
        _save(bank)
    except OSError:  # the disk is full, say: what is refused must not be there
        bank.remove(ids)
        raise
    return StoredPrompt(id=ids[0], **request.model_dump())


@router.delete("/prompts/{prompt_id}", status_code=204)
def remove_prompt(context: Ctx, prompt_id: str) -> None:
    """Removes a prompt."""
    bank = _bank(context)
    try:
        bank.remove([prompt_id])
    except ValueError as error:
        raise ProblemError(404, f"the bank has no prompt {prompt_id[:80]}") from error
    context.disk.insist(lambda: _save(bank))


def _save(bank: Any) -> None:
    """Writes what was changed."""
    try:
        _ask(bank.save)
    except RuntimeError as error:
        detail = "the prompt bank was changed by another process: restart the server"
        raise ProblemError(409, detail) from error


def _ask(method: Any, *args: Any, **kwargs: Any) -> Any:
    """The bank's own refusals name the parameter."""
    try:
        return method(*args, **kwargs)
    except ParameterError as error:
        field = error.name.partition("[")[0]
        raise ProblemError.of(error, {"prompts": "prompt"}.get(field, field)) from error
    except ValueError as error:
        raise ProblemError(422, str(error)) from error
