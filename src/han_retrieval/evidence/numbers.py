"""Evidence as plain numbers and names, for JSON."""

from __future__ import annotations

from typing import Any

from han_retrieval.evidence.pair import PairEvidence

REGIONS_A_WORD = 3


def evidence_as_json(evidence: PairEvidence, *, regions: int = REGIONS_A_WORD) -> dict[str, Any]:
    """What JSON takes: the score, each word with its match and the regions it gathered most from, and the phrases.

    Args:
        evidence: Of a photo and a sentence.
        regions: How many of them a word, the one of greatest weight first.
    """
    best = (-evidence.alignment).argsort(axis=1, kind="stable")[:, :regions]  # (n, regions)

    def region(number: int, weight: float) -> dict[str, Any]:
        return {"region": number, "weight": weight, "box": evidence.boxes[number].tolist()}

    return {
        "score": evidence.score,
        "words": [
            {
                "word": word,
                "known": evidence.known[i],
                "match": float(evidence.match[i]),
                "regions": [region(int(j), float(evidence.alignment[i, j])) for j in best[i]],
            }
            for i, word in enumerate(evidence.words)
        ],
        "phrases": [
            {
                "words": list(evidence.words[phrase.start : phrase.end]),
                "start": phrase.start,
                "end": phrase.end,
                **region(phrase.region, phrase.weight),
            }
            for phrase in evidence.phrases()
        ],
    }
