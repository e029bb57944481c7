"""The form of all messages: `function: argument: expected ..., got ....`, on one line; hints may follow."""

import re
from collections.abc import Callable
from typing import Any

import pytest


def raised(kind: type[Exception], call: Callable[[], Any]) -> str:
    """The message of an error of exactly this class, which is one line and not a long one."""
    with pytest.raises(kind) as error:
        call()
    message = str(error.value)
    assert type(error.value) is kind and len(message.splitlines()) == 1 and len(message) < 500, message
    return message


def check(message: str, where: str, expected: str, got: str) -> None:
    """Check that a message has the form, that `expected` is in its first part and that `got` begins the second."""
    pattern = rf"{re.escape(where)}: expected .*{re.escape(expected)}.*, got {re.escape(got)}(?!\w).*\."
    assert re.fullmatch(pattern, message), (pattern, message)
