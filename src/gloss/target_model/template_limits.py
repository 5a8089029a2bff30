"""Chat templates of others run for a bounded time, and write a bounded text."""

from __future__ import annotations

import sys
import time
from types import FrameType
from typing import Any

from gloss.errors import CorpusError

MAX_SECONDS = 5.0
MAX_CHARS = 50_000_000
_TEMPLATE = "<template>"


def with_bounded_template(tokenizer: Any) -> Any:
    """The tokenizer, whose ``apply_chat_template`` raises CorpusError for one that runs on."""
    apply = tokenizer.apply_chat_template

    def bounded(*args: Any, **options: Any) -> Any:
        with _Deadline():
            found = apply(*args, **options)
        if isinstance(found, str) and len(found) > MAX_CHARS:
            raise CorpusError(
                "the chat template writes too much", expected=f"at most {MAX_CHARS} characters"
            )
        return found

    tokenizer.apply_chat_template = bounded
    return tokenizer


class _Deadline:
    """While active, code of templates in this thread is stopped at its first line too late.

    Lines of templates alone are looked at: no thread can be ended from outside, and a process of
    its own would take longer to start than most chats take."""

    def __enter__(self) -> None:
        self._before, self._end = sys.gettrace(), time.monotonic() + MAX_SECONDS
        sys.settrace(self._enter)

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _enter(self, frame: FrameType, *_: object) -> Any:
        return self._line if frame.f_code.co_filename == _TEMPLATE else None

    def _line(self, *_: object) -> Any:
        if time.monotonic() > self._end:
            what, remedy = "the chat template does not come to an end", "Do not use this tokenizer"
            expected = f"a chat within {MAX_SECONDS:g} s"
            raise CorpusError(what, expected=expected, remedy=remedy)
        return self._line
