"""``han explain``: which words of a sentence are aligned with which regions of a photo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from han_retrieval.cli.json_output import print_json
from han_retrieval.cli.options import FOLDER, detector_options, json_option, model_option
from han_retrieval.cli.unknown_words import name_unknown
from han_retrieval.data import open_photo
from han_retrieval.errors import ConfigError
from han_retrieval.pictures import refuse_overwriting

if TYPE_CHECKING:
    from han_retrieval.evidence import Evidence


@click.command()
@click.argument("photo", type=FOLDER)
@click.argument("sentence")
@model_option
@detector_options
@click.option("--out", type=click.Path(path_type=Path), help="Draw the evidence to this file: .png, .jpg or .html.")
@click.option(
    "--width", type=click.IntRange(64, 8192), default=720, show_default=True, help="Width of the picture in pixels."
)
@click.option(
    "--font", type=click.Path(path_type=Path), help="A TrueType file, for sentences that are not in Latin letters."
)
@json_option
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
    """Score PHOTO against SENTENCE and show which region each word is aligned with.

    For each word it prints its match (a cosine, -1 to 1), the region with its greatest alignment weight, that weight
    and the region's box.
    """
    is_given = click.get_current_context().get_parameter_source
    for name in ("width", "font"):
        if is_given(name) is ParameterSource.COMMANDLINE and (out is None or out.suffix.lower() in (".html", ".htm")):
            raise ConfigError(f"--{name} is for a picture: add --out evidence.png, or leave it out")
    if out:
        refuse_overwriting(out, photo)
    picture = open_photo(photo)  # before torch is imported
    from han_retrieval.evidence import evidence_from_regions
    from han_retrieval.matchers import load_matcher
    from han_retrieval.matchers.detectors import find_detector

    matcher = load_matcher(model)
    finder = find_detector(matcher.config, model, name=detector, regions=regions)
    evidence = evidence_from_regions(matcher, finder.detect([picture])[0], sentence, photo=photo)
    name_unknown(matcher, [sentence], folder=model)
    if out:
        evidence.draw(out, width=width, font=font)
    if as_json:
        print_json({"photo": str(photo)} | evidence.to_dict())
    else:
        click.echo(_table(evidence))
    if out:
        click.echo(f"wrote {out}", err=True)


def _table(evidence: Evidence) -> str:
    lines = [f"score {evidence.score:.4f}", f"{'word':<16} {'match':>6} {'weight':>6}  region (x0 y0 x1 y1)"]
    for i, region in enumerate(evidence.word_regions):
        if not evidence.known[i]:
            lines.append(f"{evidence.words[i]:<16} {'?':>6}")
            continue
        box = " ".join(f"{edge:.0f}" for edge in evidence.boxes[region])
        numbers = f"{evidence.match[i]:>6.2f} {evidence.alignment[i, region]:>6.2f}"
        lines.append(f"{evidence.words[i]:<16} {numbers}  {region} ({box})")
    return "\n".join(lines)
