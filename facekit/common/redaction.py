"""Secrets taken out of texts before anybody reads them. Built in notebook 08."""

import os
import re
from collections.abc import Iterable, Sequence
from typing import Any

HIDDEN = "***"
SECRET = re.compile(r"key|token|secret|passw|credential|auth", re.IGNORECASE)  # in a name
KEYLIKE = re.compile(r"\b(?:[0-9a-f]{32,}|(?:hf|KGAT|wandb_v1|gh[pousr])_\w{8,})\b")
# What stands before a secret: a header, the query of a signed address, a JSON key, a variable. What
# is hidden ends before a quotation mark, so that code stays code.
CARRIERS = (
    re.compile(r"""(\bBearer )[^\s"'`]+"""),
    re.compile(r"(\bBasic )(?=\S+[0-9A-Z=])[A-Za-z0-9+/=]{12,}"),  # base64, and no English word
    re.compile(r"""(https?://[^\s?"'`<>]+\?)[^\s"'`<>]+"""),
    re.compile(r"""(["'](?:key|\w*token)["']: ?["'])[^"']+"""),
    re.compile(
        r"""(\b\w*(?:api_?key|token|secret|passw(?:or)?d)["']?\s*[:=]\s*["'])[^"'\s]{8,}""",
        re.IGNORECASE,
    ),
)


def hide_secrets(text: str) -> str:
    """The text without what looks like a key, or is the value of a variable named like one."""
    for name, value in os.environ.items():
        if SECRET.search(name) and len(value) >= 8:
            text = text.replace(value, HIDDEN)
    return KEYLIKE.sub(HIDDEN, text)


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """What another program said, without `secrets` and what else could be one."""
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    text = hide_secrets(text)
    for carrier in CARRIERS:
        text = carrier.sub(rf"\1{HIDDEN}", text)
    return text


def redact_values(value: Any, secrets: Sequence[str] = ()) -> Any:
    """`redact` for every text in a JSON value, keys of dictionaries included.

    A list of lines, as a notebook keeps its texts, is looked at as one text.
    """
    if isinstance(value, str):
        return redact(value, secrets)
    if isinstance(value, dict):
        return {redact(k, secrets): redact_values(v, secrets) for k, v in value.items()}
    if not isinstance(value, list):
        return value
    texts = all(isinstance(part, str) for part in value)
    if len(value) > 1 and texts and all(part.endswith("\n") for part in value[:-1]):
        return redact("".join(value), secrets).splitlines(keepends=True)
    return [redact_values(part, secrets) for part in value]
