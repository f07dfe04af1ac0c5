"""Secrets taken out of texts before anybody reads them. Built in notebook 08."""

import os
import re
from collections.abc import Iterable

HIDDEN = "***"
SECRET = re.compile(r"key|token|secret|passw|credential|auth", re.IGNORECASE)  # in a name
KEYLIKE = re.compile(r"\b(?:[0-9a-f]{32,}|(?:hf|KGAT|wandb_v1|gh[pousr])_\w{8,})\b")
CARRIERS = (  # what stands before a secret: a header, the query of a signed address, a JSON key
    re.compile(r"(\b(?:Bearer|Basic) )\S+"),
    re.compile(r"(https?://[^\s?]+\?)\S+"),
    re.compile(r"""(["'](?:key|\w*token)["']: ?["'])[^"']+"""),
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
