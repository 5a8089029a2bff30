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
# Gloss's own.
MAX_MESSAGES = 1024
ROLES = frozenset(
    {"system", "developer", "user", "assistant", "model", "tool", "function", "ipython"}
)
MAX_CHAT_CHARS = 8 * MAX_TEXT_CHARS
_TEXT_BYTES, _NUMBER_BYTES, _TEXT_COMMAS = 16 * 2**20, 32, 2**18


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds that hold whatever clients do.

    ``max_batch_rows`` explanations and ``max_completions`` texts that the target continues, steered
    or not, are written side by side; ``max_queued_rows`` more may wait, and ``max_queued_jobs``
    texts to be read or reconstructed: beyond them the answer is 429. ``max_new_tokens`` caps an
    explanation; a longer wish is cut to it. ``max_values`` bounds the numbers in one answer,
    ``cache_bytes`` the memory of cached activations and explanations. ``request_timeout_s`` ends a
    request, ``grace_s`` is the time that those under way have in a shutdown.

    ``max_body_bytes`` bounds an uploaded file, and what is held of the bodies of all requests is
    ``max_held_bytes`` at the most. A client has ``header_timeout_s`` to begin and end its headers,
    ``body_timeout_s`` for its body, and takes an answer at 32 KiB in ``write_timeout_s`` at least.
    ``upload_bytes`` is the memory of the process that opens an uploaded file."""

    max_body_bytes: int = 64 * 2**20
    max_held_bytes: int = 256 * 2**20
    upload_bytes: int = 2**30
    max_batch_rows: int = 128
    max_queued_rows: int = 4096
    max_queued_jobs: int = 256
    max_completions: int = 64
    max_new_tokens: int = 4096
    max_values: int = 8_000_000
    cache_bytes: int = 256 * 2**20
    request_timeout_s: float = 300.0
    header_timeout_s: float = 15.0
    body_timeout_s: float = 60.0
    write_timeout_s: float = 20.0
    grace_s: float = 10.0


def json_bounds(d_model: int) -> tuple[int, int]:
    """Bytes and commas that the JSON of the largest allowed request has: two full batches of
    activations, and texts."""
    numbers = 2 * MAX_DESCRIBE_BATCH * d_model
    return _TEXT_BYTES + numbers * _NUMBER_BYTES, numbers + _TEXT_COMMAS
