"""Two writers are refused or take turns; readers see whole versions, whatever a writer does meanwhile."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
from child_commands import Commands
from disturbed import check_output

from han_retrieval.errors import HANError, StoreError
from han_retrieval.regions import RegionStore
from han_retrieval.search import Index, is_index
from han_retrieval.storage.locks import WriterLock

COMMIT = 4  # photos


def writing(command, out, times: int = 1):
    """Runs of a command that write while this process does something else."""
    pool = ThreadPoolExecutor(1)
    return pool.submit(lambda: [command.run(out) for _ in range(times)])


@pytest.mark.parametrize("name", ["extract more", pytest.param("train", marks=pytest.mark.slow)])
def test_a_second_writer_is_refused(command, tmp_path, name):
    changing, out = command(name), tmp_path / "out"
    changing.start(out)
    locked = out / "training" if name == "train" else out
    locked.mkdir(parents=True, exist_ok=True)
    with WriterLock(locked):
        run = changing.run(out)
        check_output(run, out)
        assert run.code == 2
        assert "is writing to it; wait until it ends, or stop it" in run.err
        changing.check(out)
    changing.check_goes_on(out)


@pytest.mark.parametrize("name", ["index", "extract"])
def test_readers_see_whole_commits_of_a_new_table(command, tmp_path, name):
    changing, out = command(name), tmp_path / "out"
    done, seen = changing.read(changing.done), []
    writer = writing(changing, out)
    while not writer.done():
        now = changing.read(out)
        assert now.items() <= done.items()
        assert len(now) in (len(done), len(now) // COMMIT * COMMIT)
        seen.append(len(now))
    assert writer.result()[0].code == 0
    assert seen
    assert seen == sorted(seen)
    changing.check_done(out)


@pytest.mark.parametrize(
    "name", ["index update", "index rebuild", pytest.param("index delete", marks=pytest.mark.slow)]
)
def test_readers_see_whole_versions_of_an_index_that_changes(command, tmp_path, name):
    changing, out = command(name), tmp_path / "out"
    before, done = changing.read(changing.before), changing.read(changing.done)
    changing.start(out)
    with Index.open(out) as opened:
        first = opened.tokens(range(len(opened)))[0].clone()
        writer, seen = writing(changing, out), 0
        while not writer.done():
            now = changing.read(out)
            if name == "index rebuild":
                assert now in (before, done)  # all of one model
            changing.check(out)
            assert opened.tokens(range(len(opened)))[0].equal(first)  # its version stays for as long as it is read
            seen += 1
        assert writer.result()[0].code == 0
        assert seen
        assert opened.tokens(range(len(opened)))[0].equal(first)
        assert opened.refresh()
        assert len(opened) == len(done)
    changing.check_done(out)


@pytest.mark.slow
def test_two_processes_that_index_the_same_photos(command, commands, tmp_path):
    """At any time one of the two writes; the other is refused, or goes on where the first ended."""
    changing, out = command("index"), tmp_path / "out"
    other = Commands()
    arguments = [out if each == "OUT" else each for each in changing.arguments]
    ended = []
    with ThreadPoolExecutor(2) as pool:
        for _ in range(10):
            changing.start(out)
            runs = [pool.submit(each.run, *arguments) for each in (commands, other)]
            ended += [run.result() for run in runs]
            for run in ended[-2:]:
                check_output(run, out)
                assert run.code == 0 or "is writing to it" in run.err, run.err
            assert 0 in (run.code for run in ended[-2:])
            changing.check_goes_on(out)
    other.close()


def one_line(do) -> None:
    with pytest.raises(StoreError) as error:
        do()
    assert "\n" not in str(error.value)


def test_an_index_that_is_deleted_or_replaced_while_it_is_read(command, tmp_path):
    changing, out = command("index update"), tmp_path / "out"
    changing.start(out)
    with Index.open(out) as index:
        shutil.rmtree(out)
        one_line(lambda: index.tokens(range(len(index))))
        one_line(lambda: index.regions(range(len(index))))
        one_line(index.refresh)
        one_line(lambda: Index.open(out))
        shutil.copytree(changing.done, out)
        assert index.refresh()
        assert len(index) == len(changing.read(changing.done))
        assert len(index.tokens(range(len(index)))[0]) == len(index)


def test_a_store_that_is_deleted_while_it_is_read(command, tmp_path):
    changing, out = command("extract more"), tmp_path / "out"
    changing.start(out)
    store = RegionStore.open(out)
    shutil.rmtree(out)
    one_line(lambda: store.read(store.ids))


@pytest.mark.slow
def test_readers_while_an_index_is_made_anew_again_and_again(command, tmp_path):
    changing, out = command("index rebuild"), tmp_path / "out"
    both = [changing.read(changing.before), changing.read(changing.done)]
    changing.start(out)
    writer, seen = writing(changing, out, times=8), 0
    while not writer.done():
        try:
            assert changing.read(out) in both
            seen += 1
        except HANError:  # the table went after it was found: the next reading finds the new one
            assert is_index(out)
    assert all(run.code == 0 for run in writer.result())
    assert seen
