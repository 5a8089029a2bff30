"""What an engine is called: ``local``, or a kind of server and its URL, or a bare URL."""

from __future__ import annotations

from urllib.parse import urlsplit

from gloss.errors import ConfigError

LOCAL = "local"
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.01, 5.0
_KINDS = ("gloss", "sglang", "vllm")
ENGINE_FORMS = (
    "local, sglang+http://host:port, vllm+http://host:port, gloss+http://host:port or"
    " http://host:port"
)


def check_temperature(temperature: float) -> None:
    """0 is greedy; below the least or above the most, a draw says nothing of the model.

    Raises: ConfigError.
    """
    if temperature != 0 and not MIN_TEMPERATURE <= temperature <= MAX_TEMPERATURE:
        expected = f"0 (greedy), or {MIN_TEMPERATURE:g} to {MAX_TEMPERATURE:g}"
        raise ConfigError("temperature", expected=expected, found=temperature)


def parse_engine(spec: str) -> tuple[str | None, str]:
    """Kind and URL of a server's name; the kind of a bare URL is None.

    Raises: ConfigError.
    """
    kind, plus, rest = spec.partition("+")
    url = rest if plus and kind in _KINDS else spec
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or parts.query or parts.fragment:
        raise ConfigError("unknown engine", expected=ENGINE_FORMS, found=repr(spec))
    return (kind if url is rest and plus else None), url.rstrip("/")
