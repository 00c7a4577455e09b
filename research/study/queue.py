"""The queue of the study's runs: which there are, and making those that are not done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from filelock import FileLock, Timeout

from han_retrieval.errors import ConfigError, HANError
from research.study.groups import groups
from research.study.report import Records, read_records, to_record, write_records, write_study
from research.study.runs import Study, find
from research.study.settings import Run, runs_of


def queue(stores: Sequence[str], *, only: Sequence[str] = (), seeds: Sequence[int] = ()) -> list[tuple[str, Run]]:
    """Runs in the order in which they are made, each with the first group that asks for it."""
    found: dict[tuple[str, str, int], tuple[str, Run]] = {}
    known = set()
    for group in groups(stores):
        for run in runs_of(group, first_store=stores[0]):
            names = {group.name, run.setting.label, run.setting.name}
            known |= names
            if (not only or names & set(only)) and (not seeds or run.seed in seeds):
                found.setdefault(run.key, (group.name, run))
    if unknown := set(only) - known:
        raise ConfigError(
            f"--only {', '.join(sorted(unknown))}: no group or setting; there are {', '.join(sorted(known))}"
        )
    return list(found.values())


def work_off(study: Study, runs: Sequence[tuple[str, Run]], *, results: Path, document: Path, progress: bool) -> int:
    """``make_runs`` for the study; how many failed.

    What is found is written beside what other queues have found meanwhile.
    """

    def write_down(found: Records) -> None:
        with FileLock(study.out / "results.lock"):
            stores, records = read_records(results)
            stores, records = list(dict.fromkeys([*study.stores, *stores])), records | found
            if records:
                write_records(results, stores, records)
                write_study(document, stores, records)

    return len(make_runs(study, runs, write_down=write_down, progress=progress))


def make_runs(
    study: Study, runs: Sequence[tuple[str, Run]], *, write_down: Callable[[Records], None], progress: bool
) -> dict[tuple[str, str, int], HANError]:
    """Make all runs that are not done and that no other queue is making; why some failed, by their keys.

    ``write_down`` is given what is known of them at first, then what each gives.
    """

    def done(run: Run) -> dict[str, Any] | None:
        return find(run, study.out, detector=study.stores[run.store].fingerprint)

    study.out.mkdir(parents=True, exist_ok=True)
    # A run that was killed may have left results that are not there yet.
    write_down({run.key: to_record(run, found) for _, run in runs if (found := done(run))})
    failed: dict[tuple[str, str, int], HANError] = {}
    for number, (group, run) in enumerate(runs, start=1):
        folder = run.folder(study.out)
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_name(f"{folder.name}.lock"), blocking=False)
        try:
            with lock:
                if done(run):
                    continue
                told = f"{group}: {run.setting.label}, seed {run.seed}, {run.store}"
                click.echo(f"[{number}/{len(runs)}] {told}", err=True)
                write_down({run.key: to_record(run, study.perform(run, progress=progress))})
        except Timeout:
            click.echo(f"skipped {folder}: another queue trains it", err=True)
        except HANError as error:
            click.echo(f"failed: {error}", err=True)
            failed[run.key] = error
    return failed
