"""Themes of tables of explanations: claims that come back, and how far they are supported.

    explanation → claims → TF-IDF → clusters → tokens, documents, agreement of neighbours
A claim that neighbouring tokens repeat is true more often than one that stands alone; ``agreement``
says how often they do, ``share`` how often they would if the theme stood at random tokens.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from gloss.errors import ConfigError
from gloss.nla.trust import split_claims
from gloss.reading.tables import iter_results

DISTANCE = 0.25
"""Joins "A verb comes next" and "Next comes a verb", not "There is a kite" and "… a parcel"."""
PAIRWISE_LIMIT = 3000
"""Most claims that are compared pair by pair; more are grouped by k-means, in linear memory."""
_CLAIMS_PER_CLUSTER = 8
Place = tuple[str, int]
"""A token: file and document, and its position (or row, where no position is known)."""


@dataclass(frozen=True)
class Claim:
    """One claim of one explanation, at a place."""

    text: str
    place: Place
    document: str
    fve: float | None


@dataclass(frozen=True)
class Theme:
    """Claims that say the same.

    ``agreement`` is the share of the explained neighbours of its tokens that say it too; ``share``
    is that of all tokens. ``fve`` is the mean over the explanations that hold it."""

    label: str
    claims: tuple[tuple[str, int], ...]
    n_tokens: int
    n_documents: int
    agreement: float | None
    share: float
    fve: float | None

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready mapping."""
        return asdict(self)


def find_themes(
    files: Sequence[Path], *, distance: float = DISTANCE, min_tokens: int = 2, neighbours: int = 5
) -> list[Theme]:
    """Themes that at least ``min_tokens`` tokens support, the best supported first.

    ``distance`` is the cosine distance of TF-IDF vectors up to which claims are one theme (0: only
    the same words); a large one joins sentences that differ only in a name. Explained tokens of a
    document up to ``neighbours`` positions apart are neighbours.
    Raises: ConfigError for a distance outside 0 … 1; DatasetError.
    """
    if not 0 <= distance <= 1:
        raise ConfigError("distance of themes", expected="0 to 1", found=distance)
    claims, places = _claims(files)
    if not claims:
        return []
    keys = sorted({normalised(claim.text) for claim in claims})
    group_of = dict(zip(keys, _clusters(keys, distance), strict=True))
    groups: dict[int, list[Claim]] = defaultdict(list)
    for claim in claims:
        groups[group_of[normalised(claim.text)]].append(claim)
    nearest = _neighbours(places, neighbours)
    themes = [_theme(group, nearest, len(places)) for group in groups.values()]
    kept = [theme for theme in themes if theme.n_tokens >= min_tokens]
    return sorted(kept, key=lambda theme: (-theme.n_tokens, -theme.n_documents, theme.label))


def normalised(claim: str) -> str:
    """A claim without case, outer punctuation and repeated white space."""
    return " ".join(re.sub(r"^\W+|\W+$", "", claim.casefold()).split()) or claim.strip()


def _claims(files: Sequence[Path]) -> tuple[list[Claim], list[tuple[str, Place]]]:
    """All claims, and every explained token once, with its document."""
    claims: list[Claim] = []
    places: dict[Place, str] = {}
    for number, file in enumerate(files):
        for table in iter_results(file):
            for row in table.select(["row", "doc_id", "position", "text", "fve"]).to_pylist():
                at = row["position"] if row["position"] is not None else row["row"]
                document = f"{number}\0{row['doc_id'] if row['doc_id'] is not None else ''}"
                place = (document, at) if row["position"] is not None else (f"{document}\0row", at)
                places[place] = document
                claims += [
                    Claim(c, place, document, row["fve"]) for c in split_claims(row["text"] or "")
                ]
    return claims, [(document, place) for place, document in sorted(places.items())]


def _clusters(keys: Sequence[str], distance: float) -> list[int]:
    """A group number for each of the different claims."""
    if distance == 0 or len(keys) == 1:
        return list(range(len(keys)))
    from sklearn.cluster import AgglomerativeClustering, MiniBatchKMeans
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\w+|[^\w\s]")
    vectors = vectorizer.fit_transform(keys)
    if len(keys) <= PAIRWISE_LIMIT:
        similarity = (vectors @ vectors.T).toarray()
        method = AgglomerativeClustering(
            n_clusters=None, metric="precomputed", linkage="average", distance_threshold=distance
        )
        return [int(label) for label in method.fit_predict(np.clip(1.0 - similarity, 0.0, None))]
    count = max(2, len(keys) // _CLAIMS_PER_CLUSTER)
    method = MiniBatchKMeans(n_clusters=count, random_state=0, n_init=1, batch_size=4096)
    return [int(label) for label in method.fit_predict(vectors)]


def _neighbours(places: Sequence[tuple[str, Place]], reach: int) -> Mapping[Place, list[Place]]:
    """For each token the next explained ones of its document on both sides, if near enough."""
    found: dict[Place, list[Place]] = {place: [] for _, place in places}
    for (_, first), (_, second) in pairwise(places):
        near = first[0] == second[0] and second[1] - first[1] <= reach
        if near and not first[0].endswith("\0row"):
            found[first].append(second)
            found[second].append(first)
    return found


def _theme(claims: Sequence[Claim], nearest: Mapping[Place, list[Place]], n_places: int) -> Theme:
    said = {claim.place for claim in claims}
    counts = Counter(normalised(claim.text) for claim in claims)
    shown = {normalised(claim.text): claim.text for claim in reversed(claims)}
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    beside = [other in said for place in said for other in nearest[place]]
    fves = [claim.fve for claim in claims if claim.fve is not None]
    return Theme(
        label=shown[ranked[0][0]],
        claims=tuple((shown[key], count) for key, count in ranked),
        n_tokens=len(said),
        n_documents=len({claim.document for claim in claims}),
        agreement=sum(beside) / len(beside) if beside else None,
        share=len(said) / n_places,
        fve=float(np.mean(fves)) if fves else None,
    )
