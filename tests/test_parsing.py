from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from han_retrieval import parsing
from han_retrieval.config import load_config
from han_retrieval.errors import LONGEST_MESSAGE, ConfigError, DataError, HANError, ModelError, StoreError, one_line
from han_retrieval.parsing import numbered_lines, read_json, read_json_lines, read_text, read_toml, shown
from han_retrieval.search import Calibration
from han_retrieval.search.settings import Settings
from han_retrieval.text import Vocabulary
from han_retrieval.training import TrainingConfig

DEEP = "[" * 100_000


def refused(reason: str, read: Callable[[], object], kind: type[HANError] = HANError) -> None:
    with pytest.raises(kind, match=reason) as error:
        read()
    assert len(str(error.value)) <= LONGEST_MESSAGE
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("name", "content", "read", "kind"),
    [
        ("a.json", DEEP, read_json, DataError),
        ("a.jsonl", f'{{"a": {DEEP}', lambda path: list(read_json_lines(path)), DataError),
        ("config.toml", f"epochs = {DEEP[:20_000]}", lambda path: load_config(TrainingConfig, path), ConfigError),
        ("config.toml", "a = " + "{b = " * 5_000, lambda path: load_config(TrainingConfig, path), ConfigError),
        ("vocabulary.json", DEEP, Vocabulary.load, ModelError),
        ("index.json", DEEP, lambda path: Settings.read(path.parent), StoreError),
        ("calibration.json", DEEP, lambda path: Calibration.read(path.parent), ModelError),
    ],
)
def test_what_is_nested_without_end_is_named(
    tmp_path: Path, name: str, content: str, read: Callable[[Path], object], kind: type[HANError]
) -> None:
    (tmp_path / name).write_text(content)
    refused(f"{name}.*nested too deeply", lambda: read(tmp_path / name), kind)


def test_toml_has_a_largest_length(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("a." * 200_000 + "a = 1")  # would take minutes
    refused(r"a\.toml: .*longer than 32,768 characters", lambda: read_toml(tmp_path / "a.toml"), ConfigError)


def test_a_value_of_an_override_that_is_nested_without_end_is_text() -> None:
    refused("--set: epochs = ", lambda: load_config(TrainingConfig, overrides=[f"epochs={DEEP}"]), ConfigError)


@pytest.mark.parametrize("content", [b"\xff", b"\xed\xa0\x80", b"a\n\xc3"])
def test_what_is_not_utf8_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    for read in (read_text, read_json, read_toml, lambda file: list(read_json_lines(file))):
        refused(r"a\.json, line \d: not UTF-8 text|a\.json, line 1: broken", lambda read=read: read(path))


def test_files_and_lines_have_a_largest_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    path.write_text('"1234567"\n"2"\n')
    refused("larger than 12 bytes", lambda: read_text(path, most=12))
    assert read_text(path, most=14) == '"1234567"\n"2"\n'
    monkeypatch.setattr(parsing, "LINE_BYTES", 9)
    with path.open("rb") as file:
        refused("line 1: longer than 9 bytes", lambda: list(numbered_lines(file, path)))
    monkeypatch.setattr(parsing, "LINE_BYTES", 10)
    assert [value for _, value in read_json_lines(path)] == ["1234567", "2"]


def test_memory_is_set_aside_for_what_there_is() -> None:
    asked = []

    class File(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            asked.append(size)
            return super().read(size)

    assert parsing.read_at_most(File(b"12345"), 3) == b"123"
    assert parsing.read_at_most(File(b"12345"), 2**31) == b"12345"
    assert max(asked) <= 2**20


def test_messages_are_one_line_that_can_be_printed() -> None:
    assert one_line("a: is wrong\n   because of\r\nb") == "a: is wrong because of b"
    assert one_line("caf\u00e9 \x1b[31m \udcff") == "caf\u00e9 \\x1b[31m \\udcff"
    cut = one_line(f"{'a' * 200}{'b' * 100_000}{'c' * 200}")
    assert len(cut) <= LONGEST_MESSAGE
    assert cut.startswith("a" * 200)
    assert cut.endswith("c" * 200)
    assert len(one_line("\udcff" * 100_000)) <= LONGEST_MESSAGE
    assert str(DataError("\x07" * 2000)).isprintable()


def test_any_value_can_be_shown() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (deep, 10**5000, ["a" * 10**6] * 10**6, "\n" * 1000, {1: deep}):
        assert len(shown(value)) <= 60
    assert shown("two\nlines") == r"'two\nlines'"
