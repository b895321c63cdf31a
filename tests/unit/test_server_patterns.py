"""Filters understand regular expressions as clients write them, and none of them is slow."""

import re
import time

import pytest

from pileus.compute.server.patterns import Pattern
from pileus.core.errors import BadRequest

TEXTS = ["", "web", "web-1", "my-web-12", "WEB", "w.b", "10.0.0.12", "a+b", "x" * 255, "tempest-instance-3647"]


@pytest.mark.parametrize(
    "pattern",
    ["", "web", "^web", "web$", "^web$", ".", "w.b", r"w\.b", "we*b", "w+", "[0-9]+", "[^a-z]", r"\d+$", r"^\w+-\d$",
     r"^.*\-instance\-[0-9]+$", "^10.0", ".*", "a?b", r"a\+b", "[a-c]b", "x*x*y", "^$", r"\$", "[]]"],
)  # fmt: skip
def test_it_finds_what_python_finds(pattern: str) -> None:
    for text in TEXTS:
        assert Pattern(pattern).found_in(text) == (re.search(pattern, text) is not None), text


@pytest.mark.parametrize("pattern", ["(a+)+$", "a|b", "a{2,}", "**", "a**", "*", "[z-a]", "[", "x" * 129, "\\"])
def test_what_is_not_understood_is_refused(pattern: str) -> None:
    with pytest.raises(BadRequest):
        Pattern(pattern)


def test_no_pattern_is_slow() -> None:
    started, pattern = time.process_time(), Pattern("x*" * 63 + "y")
    for _ in range(100):
        assert not pattern.found_in("x" * 255)
    assert time.process_time() - started < 5


def test_the_database_looks_for_the_longest_plain_run() -> None:
    assert Pattern("^a.*server-b[0-9]").literal == "server-b" and Pattern("abc").plain and not Pattern("^abc").plain
