"""Models on the Hugging Face Hub: ``user/name``, or ``user/name@REVISION``, where a model's folder can be given.

No pickle and no code is among a model's files, and nothing else is downloaded or uploaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from han_retrieval.errors import ConfigError, ModelError, first_line
from han_retrieval.files import BACKBONE_FOLDER
from han_retrieval.hub_errors import causes, refusal_of
from han_retrieval.logs import silenced
from han_retrieval.storage.folder_checksums import listed_files, refuse_damage

_OF_BACKBONE = ("config.json", "model.safetensors", "README.md", "checksums.json")
# What a model folder may hold.
FILES = (
    "config.json",
    "model.safetensors",
    "vocabulary.json",
    "README.md",
    "calibration.json",
    "candidates.safetensors",
    "checksums.json",
    *(f"{BACKBONE_FOLDER}/{name}" for name in _OF_BACKBONE),
)
_CARD = "README.md"
_NAME = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[\w./-]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
INSTALL = "pip install 'han-retrieval[hub]'"


def is_hub_name(name: str | Path) -> bool:
    """Whether a name is ``user/name[@REVISION]`` of the Hub, and no such folder is here, nor the folder ``user``."""
    text = str(name)
    return isinstance(name, str) and bool(_NAME.fullmatch(text)) and not Path(text.partition("/")[0]).exists()


def download(name: str, *, revision: str | None = None, local_files_only: bool = False) -> Path:
    """The folder of a model of the Hub, downloaded once and kept in the Hub's cache.

    A commit that is in the cache needs no network.

    Args:
        name: ``user/name``, or ``user/name@REVISION``.
        revision: A branch, tag or commit; the newest by default.
        local_files_only: Take what is in the cache; do not ask the network.

    Raises:
        ModelError: huggingface_hub is not installed, there is no such model or revision, it is private or gated, it
            cannot be reached, or the download was cut; the message says which.
        ConfigError: Two revisions are given.
    """
    name, named = split_name(name)
    if named and revision not in (None, named):
        raise ConfigError(f"{name}: revision {named!r} in its name and {revision!r} beside it; give one")
    revision = revision or named
    wanted = f"{name}@{revision}" if revision else name
    with _errors(wanted):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        if revision and _COMMIT.fullmatch(revision) and not local_files_only:
            try:
                folder = Path(snapshot_download(name, revision=revision, local_files_only=True))
                if _is_whole(folder):
                    return folder
            except LocalEntryNotFoundError:
                pass
        folder = Path(
            snapshot_download(name, revision=revision, allow_patterns=list(FILES), local_files_only=local_files_only)
        )
    if local_files_only and not _is_whole(folder):
        raise ModelError(f"{wanted}: its download was cut, files are missing; load it once with the network")
    return folder


def split_name(name: str) -> tuple[str, str | None]:
    """``user/name@REVISION`` as its name and its revision, None where it has none."""
    found = _NAME.fullmatch(name)
    return (name, None) if found is None else (found["name"], found["revision"])


def reference(folder: Path) -> str | None:
    """``user/name@COMMIT`` of a folder in the Hub's cache, from which it can be had again; None for another folder."""
    *_, repository, snapshots, commit = ("", "", *folder.parts)
    if snapshots != "snapshots" or not repository.startswith("models--") or not _COMMIT.fullmatch(commit):
        return None
    from huggingface_hub import constants

    if folder.parents[2].resolve() != Path(constants.HF_HUB_CACHE).resolve():
        return None
    return f"{repository.removeprefix('models--').replace('--', '/', 1)}@{commit}"


def refuse_cached(folder: Path) -> None:
    """Refuse to write into the folder of a model of the Hub.

    Raises:
        ModelError: It is in the Hub's cache.
    """
    if found := reference(folder):
        name, commit = split_name(found)
        raise ModelError(
            f"{name}: nothing is written into the Hub's cache; take a copy: hf download {name} --revision {commit} "
            "--local-dir FOLDER"
        )


def check_name(name: str) -> None:
    """Check that something can be uploaded under this name.

    Raises:
        ConfigError: It is not ``user/name``.
    """
    found = _NAME.fullmatch(name)
    if not found or found["revision"]:
        raise ConfigError(f"{name!r}: not a name on the Hub; give user/name")


def upload(
    folder: Path,
    name: str,
    *,
    card: str,
    private: bool = False,
    message: str | None = None,
    keeps_backbone: bool = False,
) -> str:
    """Upload a model's folder as one commit, and make the repository where there is none; returns its address.

    It takes the place of the model that is there: files of that one which it lacks are deleted.

    Args:
        folder: The model's; of its files those that ``FILES`` names.
        name: ``user/name``.
        card: The README.md.
        private: Whether a repository that is made is private; one that is there stays as it is.
        message: Of the commit.
        keeps_backbone: Refuse to upload where the backbone of the model that is there would be deleted.

    Raises:
        ModelError: huggingface_hub is not installed, a file is damaged, the backbone there would be deleted, or the
            Hub refuses the upload or cannot be reached.
        ConfigError: ``name`` is no name on the Hub.
    """
    check_name(name)
    there = [file for file in FILES if file != _CARD and (folder / file).is_file()]
    refuse_damage(folder, [file for file in there if "/" not in file])
    if backbone := [file.partition("/")[2] for file in there if "/" in file]:
        refuse_damage(folder / BACKBONE_FOLDER, [file for file in backbone if file != _CARD])
    with _errors(name, sending=True):
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

        api = HfApi(library_name="han-retrieval")
        api.create_repo(name, private=private, exist_ok=True)
        files: dict[str, str | bytes] = {file: str(folder / file) for file in there}
        additions = [
            CommitOperationAdd(path_in_repo=file, path_or_fileobj=content)
            for file, content in {**files, _CARD: card.encode()}.items()
        ]
        # What an earlier model had and this one lacks would be taken for a part of this one.
        former = [file for file in api.list_repo_files(name) if file in FILES and file not in {*there, _CARD}]
        if keeps_backbone and any(file.startswith(f"{BACKBONE_FOLDER}/") for file in former):
            raise ModelError(
                f"{name}: the model there has a trained backbone, which this one alone would delete: push the model's "
                "folder (`han push FOLDER`)"
            )
        deletions = [CommitOperationDelete(path_in_repo=file) for file in former]
        # One commit: who loads the model meanwhile has the old files or the new ones.
        commit = api.create_commit(
            name, [*additions, *deletions], commit_message=message or "Upload a model of han-retrieval"
        )
    return str(commit.commit_url)


def _is_whole(folder: Path) -> bool:
    """Whether all files of a model are there, by their list."""
    listed = listed_files(folder)
    return listed is not None and all((folder / file).is_file() for file in listed if file in FILES)


@contextmanager
def _errors(name: str, *, sending: bool = False) -> Iterator[None]:
    """A context in which what huggingface_hub raises is a ModelError, and the only line of it."""
    try:
        import huggingface_hub  # noqa: F401, which sets its logger's level

        with silenced("huggingface_hub"):
            yield
        return
    except ModelError:
        raise
    except ImportError:
        reason = f"to use models of the Hugging Face Hub: {INSTALL}"
    except Exception as error:  # many kinds of trouble with the network, of several libraries
        reason = _reason(error, sending=sending)
    what = "cannot be uploaded" if sending else "no such folder, nor a model that can be had from the Hugging Face Hub"
    raise ModelError(f"{name}: {what}: {reason}")


def _status(error: BaseException | None) -> int | None:
    """The status of the Hub's answer that led to an error, if it answered."""
    found = (getattr(getattr(each, "response", None), "status_code", None) for each in causes(error))
    return next((int(status) for status in found if status is not None), None)


def _reason(error: Exception, *, sending: bool) -> str:
    status = _status(error)
    said = first_line(error)
    if refused := refusal_of(error):
        return refused
    if status in (401, 403):
        do = "write there" if sending else "read it"
        return f"you may not {do} ({status}): `hf auth login` with a token that may"
    if status is not None:
        return f"the Hub answers {status} ({said})"
    if sending:
        return f"the Hub cannot be reached ({said})"
    return f"the Hub cannot be reached, and it is not whole in the cache ({said}): load it once with a network"
