"""What a server takes on, and how long it works on one request."""

from __future__ import annotations

from dataclasses import dataclass

# The interface description's own bounds, which a client may rely on.
MAX_TEXT_CHARS = 65536
MAX_POSITIONS = 512
MAX_DESCRIBE_BATCH = 512
MAX_EXPLANATION_CHARS = 8192
MAX_TEMPERATURE = 5.0
MAX_ASKED_TOKENS = 4096
DEFAULT_NEW_TOKENS = 200
MAX_COMPLETION_TOKENS = 512


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds that hold whatever clients do.

    ``max_batch_rows`` explanations and ``max_completions`` texts that the target continues, steered
    or not, are written side by side; ``max_queued_rows`` more may wait, and ``max_queued_jobs``
    texts to be read or reconstructed: beyond them the answer is 429. ``max_new_tokens`` caps an
    explanation; a longer wish is cut to it. ``max_values`` bounds the numbers in one answer,
    ``cache_bytes`` the memory of cached activations and explanations. ``request_timeout_s`` ends a
    request, ``grace_s`` is the time that those under way have in a shutdown."""

    max_body_bytes: int = 64 * 2**20
    max_batch_rows: int = 128
    max_queued_rows: int = 4096
    max_queued_jobs: int = 256
    max_completions: int = 64
    max_new_tokens: int = 4096
    max_values: int = 8_000_000
    cache_bytes: int = 256 * 2**20
    request_timeout_s: float = 300.0
    grace_s: float = 10.0
