"""``han caption``: the sentences that fit a photo best."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
from click.core import ParameterSource

from han_retrieval.cli.hits import match_column
from han_retrieval.cli.json_output import print_json
from han_retrieval.cli.names import printable
from han_retrieval.cli.options import FOLDER, cpu_option, detector_options, json_option, k_option, model_option
from han_retrieval.data import open_photo, read_sentences
from han_retrieval.errors import DataError
from han_retrieval.parsing import shown
from han_retrieval.search.settings import is_index
from han_retrieval.search.unknown import reads_most

_MOST_NAMED = 3  # of the sentences that are left out


@click.command()
@click.argument("captions", type=FOLDER)
@click.argument("photo", type=FOLDER)
@model_option
@k_option
@detector_options
@cpu_option
@json_option
def caption(
    captions: Path, photo: Path, model: str, k: int, detector: str | None, regions: int, device: str, as_json: bool
) -> None:
    """Print the sentences of CAPTIONS that fit PHOTO best, best first, with their scores.

    Sentences of which the model knows no word, or too few, are left out.

    CAPTIONS is a text file (.txt) with one sentence per line, a dataset with captions, or an index. Of an index, its
    model ranks the names that the detector gave to regions of photos.
    """
    sentences = [] if is_index(captions) else read_sentences(captions)
    picture = open_photo(photo)  # before torch is imported
    from han_retrieval.cli.devices import find_device
    from han_retrieval.matchers import load_aligning_matcher
    from han_retrieval.matchers.detectors import find_detector
    from han_retrieval.regions.choose import PHOTO
    from han_retrieval.search import Calibration, Index, rank_captions

    if is_index(captions):
        is_given = click.get_current_context().get_parameter_source("model") is ParameterSource.COMMANDLINE
        own = model if is_given else None
        with Index.open(captions, model=own, detector=detector, device=find_device(device)) as index:
            sentences = [name for name in index.region_names() if name != PHOTO]
            matcher, finder, model = index.model, index.detector, own or index.settings.model
        if not sentences:
            raise DataError(
                f"{captions}: its detector gives regions no names; give a text file with one sentence per line, or a "
                "dataset"
            )
    else:
        matcher = load_aligning_matcher(model).to(find_device(device))
        finder = find_detector(matcher.config, model, name=detector, regions=regions)
    found = finder.detect([picture])[0]
    ranked = rank_captions(matcher, sentences, found, k=k, calibration=Calibration.read(model), progress=True)
    _name_left_out([sentence for sentence in sentences if not reads_most(matcher, sentence)], len(sentences))
    if as_json:
        facts = {"photo": str(photo), "captions": [each._asdict() for each in ranked]}
        print_json(facts)
        return
    for each in ranked:
        click.echo(f"{each.score:7.4f}{match_column(each.match)}  {printable(each.caption)}")


def _name_left_out(sentences: Sequence[str], of: int) -> None:
    if not sentences:
        return
    first = ", ".join(printable(shown(sentence)) for sentence in sentences[:_MOST_NAMED])
    more = ", ..." if len(sentences) > _MOST_NAMED else ""
    count = f"{len(sentences):,} of {of:,} sentences"
    click.echo(f"note: {count} are left out, as the model knows too few of their words: {first}{more}", err=True)
