"""What is kept of no file: fields that name persons and secrets, by their keys; and how problems quote values."""

from typing import Any

import pytest

from processor.reading.shown import shown
from processor.reading.withheld import has_credentials, is_private, without_private
from processor.tables import Tables
from tests.golden import make_submission

PRIVATE = (
    "user userName user_name USER author authorEmail author_name git.author.name owner owners e_mail email authToken"
)
PRIVATE += " access-token apiKey API_KEY secret clientSecret password db_password cookie AWSAccessKey assignee"
PUBLIC = "max_tokens user_role user_time tokenizer authority name key keyboard ownership passed reporter useragent 用户"


@pytest.mark.parametrize("key", PRIVATE.split())
def test_keys_of_persons_and_secrets_are_private(key: str) -> None:
    assert is_private(key)


@pytest.mark.parametrize("key", ["", pytest.param("x" * 100_000, id="long"), *PUBLIC.split()])
def test_keys_that_only_contain_such_words_are_not(key: str) -> None:
    assert not is_private(key)


def test_private_fields_are_left_out_and_counted_at_their_places() -> None:
    out = Tables(make_submission(), 1)
    value = {"a": [{"token": "t", "b": 1}, {"token": "u", "owner": ""}], "url": "https://u:p@example.org"}
    assert without_private(value, out, "/x") == {"a": [{"b": 1}, {}]}
    assert out.unread == {"/x/a/*/token": 2, "/x/url": 1}


def test_credentials_are_found_in_addresses_only() -> None:
    assert has_credentials("see ftp://u@host/ there")
    assert not has_credentials("https://example.org/@u")
    assert not has_credentials("mail u@example.org")


CONTAINERS: list[Any] = [({"password": "p"}, "an object"), ([[]], "an array")]
CONTAINERS += [({}, "an empty object"), ([], "an empty array")]


@pytest.mark.parametrize(
    ("value", "expected"),
    [("a'b", '"a\'b"'), ("x" * 100, repr("x" * 80)), (None, "null"), (True, "true"), (1.5, "1.5"), *CONTAINERS],
)
def test_a_problem_quotes_text_and_numbers_and_names_the_rest(value: Any, expected: str) -> None:
    assert shown(value) == expected
