"""Notes on the words of sentences that a model does not know."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from han_retrieval.cli.names import printable
from han_retrieval.matchers.saving import model_folder
from han_retrieval.search.unknown import KnowsWords, is_mostly_unknown, spelt_alike, what_is_known


def name_unknown(model: KnowsWords, sentences: Sequence[str], *, folder: str | Path) -> None:
    """Print a note for each word that a model does not know, and what it knows where that is not most of a sentence.

    Args:
        model: The model.
        sentences: Those of a query; it knows a word of each.
        folder: The model's, or its name.

    Raises:
        HANError: The model knows none of the words of a sentence.
    """
    known = {word: there for sentence in sentences for word, there in model.known_words(sentence).items()}
    unknown = [word for word, there in known.items() if not there]
    alike = spelt_alike(unknown, model.vocabulary)
    for word in unknown:
        instead = f"; it knows {alike[word]!r}" if alike else ""
        click.echo(f"note: the model does not know {word!r}{instead}", err=True)
    if any(is_mostly_unknown(model, sentence) for sentence in sentences):
        click.echo(f"note: the model knows {printable(what_is_known(model_folder(folder)))}", err=True)
