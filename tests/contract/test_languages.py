"""Every code is explained in Korean: nothing missing, nothing made up, and the same things to type."""

import re
import subprocess
import sys
import tomllib
from importlib.resources import files

import pytest

from starter.contract.errors import CATALOGUE, Code, Language, _translated, explanations

KOREAN = tomllib.loads(files("starter.contract").joinpath("errors.ko.toml").read_text(encoding="utf-8"))
TO_TYPE = re.compile(r"`[^`]+`|--[a-z][a-z-]+|\b[\w]+\.(?:py|toml|json|md|csv|zip|safetensors)\b", re.ASCII)
"""What a reader types or looks for: code, options and files."""


def test_every_code_has_a_korean_explanation() -> None:
    assert sorted(CATALOGUE.keys() - KOREAN.keys()) == [], "add these codes to errors.ko.toml"
    assert sorted(KOREAN.keys() - CATALOGUE.keys()) == [], "errors.toml has no such codes"
    assert {code for code, texts in KOREAN.items() if texts.keys() != {"title", "why", "fix"}} == set()


@pytest.mark.parametrize("code", CATALOGUE)
def test_an_explanation_names_the_same_things_in_both_languages(code: Code) -> None:
    english, korean = CATALOGUE[code], explanations(Language.KOREAN)[code]

    assert (korean.status, korean.stage) == (english.status, english.stage)
    for text, original in ((korean.why, english.why), (korean.fix, english.fix)):
        assert set(TO_TYPE.findall(text)) == set(TO_TYPE.findall(original))


@pytest.mark.parametrize("code", CATALOGUE)
def test_korean_is_written_in_one_polite_style(code: Code) -> None:
    entry = explanations(Language.KOREAN)[code]

    assert entry.title.endswith("니다")
    assert entry.why.endswith("니다.")
    assert not re.search(r"(?<!니)다\.|해요|하세요|세요\.", f"{entry.why} {entry.fix}")


def test_what_is_not_translated_is_explained_in_english() -> None:
    partly = _translated({"E501": {"title": "연산자에 비용 규칙이 없습니다"}})

    assert partly[Code.NO_COST_RULE].title == "연산자에 비용 규칙이 없습니다"
    assert partly[Code.NO_COST_RULE].why == CATALOGUE[Code.NO_COST_RULE].why
    assert partly[Code.DTYPE_REFUSED] == CATALOGUE[Code.DTYPE_REFUSED]


def test_explain_speaks_korean_when_asked() -> None:
    command = (sys.executable, "-m", "starter", "explain", "e501")
    english, korean = (
        subprocess.run((*command, *more), capture_output=True, text=True, encoding="utf-8", check=True).stdout
        for more in ((), ("--lang", "ko"))
    )

    assert english.startswith("E501  an operator has no cost rule\n")
    assert korean.startswith("E501  연산자에 비용 규칙이 없습니다\n")
    assert "docs/scoring.md" in korean
