"""Wildcards: what is drawn, from where, and what is refused."""

import pytest

from dg2_jax.checks import ParameterError
from dg2_jax.text import prompt_syntax, wildcards
from dg2_jax.text.wildcards import Wildcards


@pytest.fixture
def lists(tmp_path):
    (tmp_path / "sky").mkdir()
    (tmp_path / "sky" / "cloud.txt").write_text("# kinds\n\ncirrus\r\n  cumulus \n", "utf-8-sig")
    (tmp_path / "season.txt").write_text("monsoon\n")
    (tmp_path / "scene.txt").write_text("{a lake|a hill} in __season__ under __sky/cloud__\n")
    (tmp_path / "empty.txt").write_text("# nothing\n")
    (tmp_path / "loop.txt").write_text("more __loop__\n")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    return Wildcards(tmp_path)


def all_drawn(lists, prompt, count=200):
    return {lists.drawn(prompt, seed) for seed in range(count)}


def test_every_text_of_a_choice_and_line_of_a_list_is_drawn(lists):
    assert all_drawn(lists, "a {red|blue| } sky") == {"a red sky", "a blue sky", "a  sky"}
    assert all_drawn(lists, "__sky/cloud__") == {"cirrus", "cumulus"}
    assert all_drawn(lists, "{{a|b}|c{d|}}") == {"a", "b", "cd", "c"}


def test_a_folder_comes_before_what_ships_and_lists_nest(lists):
    assert all_drawn(Wildcards(), "__season__") == {"spring", "summer", "autumn", "winter"}
    assert all_drawn(lists, "__season__") == {"monsoon"}
    clouds = ("cirrus", "cumulus")
    wanted = {f"a {what} in monsoon under {cloud}" for what in ("lake", "hill") for cloud in clouds}
    assert all_drawn(lists, "__scene__") == wanted


def test_draws_depend_on_the_seed_alone_and_are_even():
    """Other draws for other places and parameters; the value is part of what a seed means."""
    lists = Wildcards()
    prompt = "{a|b} {a|b} {a|b}"
    assert lists.drawn(prompt, 7) == lists.drawn(prompt, 7)
    assert len(all_drawn(lists, prompt)) == 8
    pairs = {
        (lists.drawn("{a|b}", s), lists.drawn("{a|b}", s, "negative_prompt")) for s in range(99)
    }
    assert len(pairs) == 4
    heads = sum(lists.drawn("{a|b}", seed) == "a" for seed in range(1000))
    assert 430 < heads < 570
    assert "".join(lists.drawn("{a|b|c|d}", seed) for seed in range(8)) == "bdcacbaa"


@pytest.mark.parametrize(
    "text",
    [
        "a lake", "{one}", "{}", "a | b", "snake__case", "__../secret__", "__ season __", "____",
        "{a", "b}", r"\{a|b\}", r"\__season__", "a <lora:my__own__ink:0.8>",
    ],
)  # fmt: skip
def test_what_is_no_wildcard_stays(text):
    assert Wildcards().drawn(text, 3) == text
    wildcards.refuse([text], "prompt")


@pytest.mark.parametrize("text", ["{a|b}", "a__b__c", r"{\}|_}", "a \\ b"])
def test_a_literal_text_is_drawn_and_read_as_itself(text):
    drawn = Wildcards().drawn(prompt_syntax.literal(text), 1)
    assert prompt_syntax.parse(drawn)[0].text == text


def test_what_was_drawn_is_drawn_no_more(lists):
    """The record of a picture makes it again, whatever the seed."""
    drawn = lists.drawn(r"__scene__ \{x|y\} {p\|q|p\|q}", 5)
    assert all_drawn(lists, drawn) == {drawn}
    assert prompt_syntax.parse(drawn)[0].text.endswith("{x|y} p|q")


@pytest.mark.parametrize(
    ("prompt", "problem"),
    [
        ("__seasons__", "names the wildcard 'seasons', but there are"),
        ("__sky/../season__", "but there are"),
        ("__empty__", "whose list is empty"),
        ("__latin__", "names the wildcard 'latin', but"),
        ("__loop__", "must hold fewer than 100 wildcards in all"),
        ("{a|b}" * 100, "must hold fewer than 100 wildcards in all"),
        ("__scene__" * 90 + "x" * 3190, "at most 4000"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_names_the_parameter(lists, prompt, problem):
    with pytest.raises(ParameterError, match=problem) as error:
        lists.drawn(prompt, 0, "negative_prompt")
    assert error.value.name == "negative_prompt"


def test_lists_are_checked_before_anything_is_drawn(lists):
    lists.check(["__season__ {a|__scene__}", "plain"], "prompt")
    with pytest.raises(ParameterError, match="'nowhere'"):
        lists.check(["__season__ {a|__nowhere__}"], "prompt")
    with pytest.raises(ParameterError, match="must not hold wildcards"):
        wildcards.refuse(["plain", "{a|b}"], "anagram")
