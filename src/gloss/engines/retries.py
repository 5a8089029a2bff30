"""When a request is sent again: one rule for every server that Gloss asks.

Connection faults and the statuses 429, 502, 503 and 504 are passing. The wait doubles, with jitter,
and is never zero; a ``Retry-After`` that can be read is its least value.
"""

from __future__ import annotations

import math
import random
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
from tenacity import RetryCallState

import gloss.errors as errors
from gloss.errors import GlossError, ServerBusyError

PASSING = frozenset({429, 502, 503, 504})
_LONGEST_BACKOFF_S = 5.0
_FINAL_FAULTS = (
    httpx2.ReadTimeout,
    httpx2.WriteTimeout,
    httpx2.PoolTimeout,
    httpx2.LocalProtocolError,
    httpx2.UnsupportedProtocol,
)
_RANDOM = random.Random()


class Busy(Exception):
    """An answer that may be another one later."""

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        super().__init__(response.status_code)


@dataclass(frozen=True, kw_only=True)
class RetryRule:
    """How long one request is tried.

    A server that has answered before is waited for ``max_wait_s`` seconds in all; one that never
    did is tried ``retries`` times more. The first wait is about ``backoff_s``."""

    max_wait_s: float
    retries: int = 4
    backoff_s: float = 0.25

    def options(self, *, known: bool = False) -> dict[str, Any]:
        """Arguments of tenacity's loop over a call that raises ``Busy`` and httpx's errors, the
        last of which it raises; ``known`` says that the server has answered before."""
        answered = known

        def passes(state: RetryCallState) -> bool:
            fault = fault_of(state)
            return isinstance(fault, Busy | httpx2.TransportError) and not isinstance(
                fault, _FINAL_FAULTS
            )

        def wait_s(state: RetryCallState) -> float:
            fault = fault_of(state)
            least = retry_after_s(fault.response) if isinstance(fault, Busy) else 0.0
            doubled = self.backoff_s * 2.0 ** min(state.attempt_number - 1, 16)
            backoff = min(doubled, _LONGEST_BACKOFF_S) * _RANDOM.uniform(0.5, 1.0)
            return max(backoff, least * _RANDOM.uniform(1.0, 1.1))

        def is_over(state: RetryCallState) -> bool:
            nonlocal answered
            fault = fault_of(state)
            waited = state.idle_for + state.upcoming_sleep
            if isinstance(fault, Busy):
                answered = True
                if fault.response.status_code == 504:  # what took too long takes as long again
                    waited = max(waited, state.seconds_since_start or 0.0)
            if answered:
                return waited > self.max_wait_s
            return state.attempt_number > self.retries

        return {"retry": passes, "wait": wait_s, "stop": is_over, "reraise": True}


def fault_of(state: RetryCallState) -> BaseException | None:
    """What the last try raised."""
    return None if state.outcome is None else state.outcome.exception()


def checked(response: httpx2.Response) -> httpx2.Response:
    """The response. Raises: Busy for one that may be another later, unless a Gloss server says that
    asking again does not help."""
    if response.status_code not in PASSING:
        return response
    said: Any = None
    with suppress(ValueError, RecursionError):
        said = response.json()
    kind = getattr(errors, str(said.get("kind")), None) if isinstance(said, dict) else None
    if isinstance(kind, type) and issubclass(kind, GlossError) and kind is not ServerBusyError:
        return response
    raise Busy(response)


def retry_after_s(response: httpx2.Response) -> float:
    """Seconds that ``Retry-After`` asks for; 0 where it is missing, past or unreadable."""
    asked = response.headers.get("retry-after", "").strip()
    with suppress(ValueError):
        seconds = float(asked)
        return max(0.0, seconds) if math.isfinite(seconds) else 0.0
    with suppress(ValueError, TypeError, OverflowError):
        until = parsedate_to_datetime(asked)
        until = until if until.tzinfo else until.replace(tzinfo=UTC)
        return max(0.0, (until - datetime.now(UTC)).total_seconds())
    return 0.0
