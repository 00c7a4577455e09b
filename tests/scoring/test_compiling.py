"""Compiled kernels are kept apart by the source of all kernels."""

from __future__ import annotations

import pytest

from han_retrieval.scoring.cpu import compiling


def one_more(x):
    return x + 1


def test_in_a_folder_of_the_users_too_kernels_of_other_sources_are_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr(compiling._settings, "CACHE_DIR", str(tmp_path))
    for sources in ("now", "then"):
        monkeypatch.setattr(compiling, "_sources", lambda sources=sources: sources)
        assert compiling.cached_njit(one_more)(1) == 2
        assert list(tmp_path.glob(f"kernels-{sources}/*/*.nbi"))


@pytest.mark.parametrize("name", ["compiling.py", "lanes.py", "single_block_kernel.py", "../alignment.py"])
def test_the_source_of_kernels_is_all_of_it(name, tmp_path, monkeypatch):
    scoring = compiling.Path(compiling.__file__).parents[1]
    (tmp_path / "cpu").mkdir()
    for file in (*scoring.glob("*.py"), *scoring.glob("cpu/*.py")):
        (tmp_path / file.relative_to(scoring)).write_bytes(file.read_bytes())
    monkeypatch.setattr(compiling, "__file__", str(tmp_path / "cpu" / "compiling.py"))
    before = compiling._sources.__wrapped__()
    (tmp_path / "cpu" / name).write_text("changed")
    assert compiling._sources.__wrapped__() != before
