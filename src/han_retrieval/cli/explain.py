"""``han explain``: which word of a sentence looked at which region of a photo."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from han_retrieval.cli.detectors import find_detector
from han_retrieval.data import open_photo
from han_retrieval.errors import HANError
from han_retrieval.evidence import Answer, PairEvidence, Query, draw_evidence, evidence_page, explain_pair
from han_retrieval.files import write_whole
from han_retrieval.matchers import DEFAULT_MODEL, load_matcher

PAGES = (".html", ".htm")


@click.command()
@click.argument("photo", type=click.Path(path_type=Path))
@click.argument("sentence")
@click.option(
    "--model",
    type=click.Path(),
    default=DEFAULT_MODEL,
    show_default=True,
    help="The model's folder; default is the one that ships.",
)
@click.option("--detector", help="What finds the regions, where the model does not say it or its weights are your own.")
@click.option(
    "--regions",
    type=click.IntRange(min=1),
    default=36,
    show_default=True,
    help="Where the model does not say how many.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Draw the evidence: a picture (.png, .jpg), or .html.")
@click.option(
    "--width", type=click.IntRange(64, 8192), default=720, show_default=True, help="Of the picture in pixels."
)
@click.option("--font", type=click.Path(path_type=Path), help="A TrueType file for words in other than Latin letters.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def explain(
    photo: Path,
    sentence: str,
    model: str,
    detector: str | None,
    regions: int,
    out: Path | None,
    width: int,
    font: Path | None,
    as_json: bool,
) -> None:
    """Score PHOTO against SENTENCE and say what each word looked at.

    For each word: its match (how well its own picture of the photo fits it, from -1 to 1), the region that it gathered
    most from, and the share that came from there.
    """
    picture = open_photo(photo)
    matcher = load_matcher(model)
    finder = find_detector(matcher.config, model, name=detector, regions=regions)
    evidence = explain_pair(matcher, finder.detect([picture])[0], sentence)
    for word, known in dict(zip(evidence.words, evidence.known, strict=True)).items():
        if not known:
            click.echo(f"note: {word!r} is not in the model's vocabulary", err=True)
    if out and out.suffix.lower() in PAGES:
        query = Query(sentence, (Answer(picture, photo.name, evidence),))
        write_whole(out, evidence_page(f"{photo.name}: evidence", (query,)))
    elif out:
        try:
            draw_evidence(picture, evidence, width=width, font=font).save(out)
        except (OSError, ValueError) as error:
            raise HANError(f"{out}: the picture cannot be written ({error})") from None
    click.echo(json.dumps(_as_json(photo, sentence, evidence)) if as_json else _table(evidence))
    if out:
        click.echo(f"wrote {out}", err=True)


def _table(evidence: PairEvidence) -> str:
    lines = [f"score {evidence.score:.4f}", f"{'word':<16} {'match':>6} {'share':>6}  region (x0 y0 x1 y1)"]
    for i, region in enumerate(evidence.looked_at):
        match = f"{evidence.match[i]:.2f}" if evidence.known[i] else "?"
        box = " ".join(f"{edge:.0f}" for edge in evidence.boxes[region])
        lines.append(f"{evidence.words[i]:<16} {match:>6} {evidence.alignment[i, region]:>6.2f}  {region} ({box})")
    return "\n".join(lines)


def _as_json(photo: Path, sentence: str, evidence: PairEvidence) -> dict[str, Any]:
    return {
        "photo": str(photo),
        "width": evidence.width,
        "height": evidence.height,
        "sentence": sentence,
        "score": evidence.score,
        "words": [
            {
                "word": evidence.words[i],
                "known": evidence.known[i],
                "match": float(evidence.match[i]),
                "region": int(region),
                "share": float(evidence.alignment[i, region]),
                "box": [float(edge) for edge in evidence.boxes[region]],
            }
            for i, region in enumerate(evidence.looked_at)
        ],
    }
