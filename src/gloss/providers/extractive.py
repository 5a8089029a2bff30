"""Labels without a language model: keywords, the last words quoted, the target's next tokens."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from gloss.errors import LabelError
from gloss.providers.labeller import LabelRequest

_WORD = re.compile(r"[^\W\d_]+(?:['’\-][^\W\d_]+)*")
_POSSESSIVE = re.compile(r"['’]s\Z")
_MARKUP = re.compile(r"<[|/]?[\w.\-]{1,40}[|]?>")
_CLAUSE_END = re.compile(r"(?<=[.!?;:,…。！？；，])\s+|\n+")
_LONGEST_WORD = 24
_RECENT_CHARS = 400
_SHORT_CLAUSE = 3
_FUNCTION_WORDS = (
    "a about above after again all also am an and any are as at away back be because been before"
    " being but by came can come could day did do does don't down each even ever every few for from"
    " get go got had has have he her here him his how i if in into is it it's its just let like"
    " made make many may me more most much must my never no not now of off on once one only or"
    " other our out over own put s said same saw say see she should so some such t than that the"
    " their them then there these they thing this those through to too two up upon us very was way"
    " we well went were what when where which while who why will with would yes yet you your"
)
_STOPWORDS = frozenset(_FUNCTION_WORDS.split())


@dataclass(frozen=True, kw_only=True)
class ExtractiveLabeller:
    """Up to three short lines: keywords, the last clause quoted, the target's next tokens.

    Keywords are frequent, recent and long words that are no function words.
    Raises: LabelError if a setting makes no sense."""

    keywords: int = 4
    """Keywords named; 0 leaves the line out."""
    quote_words: int = 5
    """Words of the last clause that are quoted; 0 leaves the line out."""
    next_tokens: int = 3
    """Next tokens of the target named; 0 leaves the line out and spares the whole target."""
    max_chars: int = 160
    """Longest label: keywords go first, then next tokens, then the quote from its left."""
    name: ClassVar[str] = "extractive"

    def __post_init__(self) -> None:
        counts = self.keywords, self.quote_words, self.next_tokens
        if min(counts) < 0 or not any(counts):
            what, found = "the extractive labeller has nothing to write", dict(self.settings)
            raise LabelError(what, expected="a positive count", found=found)
        if self.max_chars < 16:
            what = "labels this short say nothing"
            raise LabelError(what, expected="max_chars ≥ 16", found=self.max_chars)

    @property
    def needs_next_tokens(self) -> bool:
        """Whether the line about next tokens is written."""
        return self.next_tokens > 0

    @property
    def settings(self) -> Mapping[str, Any]:
        """The four counts."""
        return asdict(self)

    def label(self, requests: Sequence[LabelRequest]) -> list[str | None]:
        """One label per request; None for a text without a visible character."""
        return [self._label(request) for request in requests]

    def _label(self, request: LabelRequest) -> str | None:
        text = _MARKUP.sub("\n", request.text)
        if not text.strip():
            return None
        words = top_keywords(text, self.keywords)
        quote = last_clause(text, self.quote_words)
        following = [*filter(None, map(_visible, request.next_tokens[: self.next_tokens]))]
        while len(label := _lines(words, quote, following)) > self.max_chars:
            if len(words) > 1:
                words = words[:-1]
            elif len(following) > 1:
                following = following[:-1]
            elif len(quote) > 1 and (words or following):
                quote = quote[1 + len(quote) // 8 :]
            else:
                return label[: self.max_chars].rstrip()
        return label or None


def top_keywords(text: str, count: int) -> list[str]:
    """The ``count`` words that say most about a text, in order of weight, without case variants."""
    found: Counter[str] = Counter()
    spelling: dict[str, str] = {}
    for match in _WORD.finditer(text):
        word = _POSSESSIVE.sub("", match[0])[:_LONGEST_WORD]
        key = word.lower()
        if len(word) < 2 or key in _STOPWORDS:
            continue
        spelling[key] = word if spelling.get(key, word) == word else key
        recent = 0.5 ** ((len(text) - match.end()) / _RECENT_CHARS)
        found[key] += (0.25 + recent) * min(len(word), 8) ** 0.5
    heaviest = sorted(found, key=lambda key: (-found[key], key))
    return [spelling[key] for key in heaviest[:count]]


def last_clause(text: str, num_words: int) -> str:
    """Up to ``num_words`` last words of the last clause; of a short one, with words before it."""
    if num_words == 0:
        return ""
    clauses = [clause.strip() for clause in _CLAUSE_END.split(text) if clause.strip()]
    words: list[str] = []
    while clauses and len(words) < min(_SHORT_CLAUSE, num_words):
        words = [*clauses.pop().split(), *words]
    return " ".join(words[-num_words:]).replace('"', "'")


def _lines(words: Sequence[str], quote: str, following: Sequence[str]) -> str:
    about, after = f"About {', '.join(words)}.", f"Next: {', '.join(following)}"
    lines = {about: words, f'Ends: "{quote}"': quote, after: following}
    return "\n".join(line for line, content in lines.items() if content)


def _visible(token: str) -> str:
    return "new line" if token and not token.strip() and "\n" in token else token.strip()
