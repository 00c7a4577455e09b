"""Why the Hugging Face Hub does not give something, in words."""

from __future__ import annotations

from collections.abc import Iterator

GATED = "its owner lets only some people in: accept its terms on its page of the Hub, then `hf auth login`"
NO_REVISION = "the Hub has no such revision of it: name a branch, tag or commit that its page lists"
_NONE = "the Hub has none of that name, or it is private: then `hf auth login`"


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those from which it came."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def kinds(error: BaseException) -> set[str]:
    """The names of the classes of an error and of those from which it came; so no library is imported to ask."""
    return {kind.__name__ for cause in causes(error) for kind in type(cause).__mro__}


def refusal_of(error: BaseException) -> str | None:
    """What the Hub's answer says, if it refused: a gated repository, no such revision, none of that name."""
    found = kinds(error)
    if "GatedRepoError" in found:
        return GATED
    if "RevisionNotFoundError" in found:
        return NO_REVISION
    return _NONE if found & {"RepositoryNotFoundError", "DatasetNotFoundError"} else None
