"""Numbers of spreadsheets: decimal commas and marks between thousands, told apart by the whole table."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from cervicyte.data.readers.numbers import NumberFormat


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        (["10,0", "150,0"], [10, 150]),
        (["1.376,5", "90,0"], [1376.5, 90]),
        (["1,376.5", "90.0"], [1376.5, 90]),
        (["1,376", "90"], [1376, 90]),
        (["1.376", "90"], [1376, 90]),
        (["1.376", "90.5"], [1.376, 90.5]),
        (["10.000", "20.125"], [10, 20.125]),
        (["1 376", "1\u00a0020", "1\u202f388", "1'376"], [1376, 1020, 1388, 1376]),
        (["1,376,000"], [1376000]),
        (["-5,5", "+3"], [-5.5, 3]),
        (["1e3", "5"], [1000, 5]),
    ],
)
def test_numbers_of_one_table(texts, values):
    numbers = NumberFormat(texts)
    assert [numbers.number(text) for text in texts] == pytest.approx(values)


@pytest.mark.parametrize("text", ["", "left", "1,2,3", "12.34.56", "1_000", "0x10", "10 20"])
def test_what_is_no_number(text):
    numbers = NumberFormat([text])
    with pytest.raises(ValueError):  # noqa: PT011 - what float() says of it does not matter
        numbers.number(text)


def test_numbers_that_were_interpreted_are_told():
    assert "'10,5' was read as 10.5" in NumberFormat(["10,5"]).words
    assert "'1.376' was read as 1376" in NumberFormat(["1.376", "20"]).words
    assert NumberFormat(["10.5", "3"]).words == ""


@given(st.lists(st.floats(0, 9999).map(lambda v: round(v, 2)), min_size=1, max_size=6))
def test_german_and_english_numbers_say_the_same(values):
    german = [f"{v:,.2f}".translate(str.maketrans(",.", ".,")) for v in values]
    english = [f"{v:,.2f}" for v in values]
    for texts in (german, english, [f"{v:.2f}" for v in values], [f"{v:.2f}".replace(".", ",") for v in values]):
        numbers = NumberFormat(texts)
        assert [numbers.number(text) for text in texts] == pytest.approx(values)


@given(st.lists(st.text(alphabet="0123456789.,' -e", max_size=8), max_size=6))
def test_any_texts_give_numbers_or_a_value_error(texts):
    numbers = NumberFormat(texts)
    for text in texts:
        try:
            assert isinstance(numbers.number(text), float)
        except ValueError:
            continue
