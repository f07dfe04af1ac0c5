"""Keys leave a text, and what is no key stays: code is still code, prose still prose."""

import ast

import pytest

from facekit.common.redaction import HIDDEN, redact, redact_values

KEYS = {
    "a header in code": 'headers = {"Authorization": "Bearer abc.def-123"}',
    "basic authentication": "Authorization: Basic YWRhOmFiY2RlZjEyMw==",
    "a signed address": "get('https://example.org/x.zip?Signature=abc.def-123&Expires=9')",
    "a variable": "my_api_key = 'abc.def-123'",
    "a word of code": "login(password='abc.def-123')",
    "an entry": '{"api_key": "abc.def-123"}',
    "a token of Hugging Face": "print('hf_abcdefgh123456')",
}


@pytest.mark.parametrize("text", KEYS.values(), ids=KEYS)
def test_a_key_is_hidden(text):
    shown = redact(text)
    assert HIDDEN in shown
    for secret in ("abc.def-123", "YWRhOmFiY2RlZjEyMw", "hf_abcdefgh123456"):
        assert secret not in shown


@pytest.mark.parametrize("name", ["a header in code", "a signed address", "a variable", "an entry"])
def test_code_with_a_key_is_still_code(name):
    ast.parse(redact(KEYS[name]))


@pytest.mark.parametrize(
    "text",
    ["Basic understanding of networks", "token = '[PAD]'", "https://example.org/a?", "key=len"],
)
def test_what_is_no_key_stays(text):
    assert redact(text) == text


def test_every_text_of_a_json_value_is_looked_at():
    value = {"hf_abcdefgh123456": [1, None, {"deep": ["hf_abcdefgh123456", True]}]}
    assert redact_values(value) == {HIDDEN: [1, None, {"deep": [HIDDEN, True]}]}


def test_the_lines_of_a_notebooks_cell_are_one_text():
    cell = ["key = (\n", "  'x'\n", ")"]
    assert redact_values(cell) == cell
    split = ['{"token":\n', '"abc.def-123"}']
    assert "abc.def-123" not in "".join(redact_values(split))
