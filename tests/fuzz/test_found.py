"""The smallest inputs that once ended in a traceback, took minutes, or took all memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from parsers import PARSERS

from han_retrieval.errors import HANError

STATE = "checkpoint-000000001/state.json"
DETECTOR = '{"names": {"nouns": ["thing"], "attributes": [], "together": [%s]}, "representation": %d}'
DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("parser", "file", "content", "reason"),
    [
        ("checkpoint", STATE, "[]", "not a checkpoint of this run"),
        ("checkpoint", STATE, '{"facts": [1]}', "not a checkpoint of this run"),
        ("checkpoint", STATE, '{"facts": {"photos": 2}, "step": 1e999, "best": {}, "seconds": 1}', "not a checkpoint"),
        (
            "checkpoint",
            STATE,
            '{"facts": {"photos": 2}, "step": 1, "best": {}, "seconds": 1%s}' % ("0" * 400),
            "too large",
        ),
        ("checkpoint", STATE, '{"facts": {"photos": 2}, "step": -1, "best": {}, "seconds": 1}', "step -1"),
        ("checkpoint", STATE, "\xff", "not UTF-8"),
        (
            "index.json",
            "index.json",
            '{"format": 1, "table": "t", "model": "m", "roots": {"/a": {"x": 1}}}',
            "x is no field",
        ),
        ("hashes of a table", "_hashes/1.json", '{"manifest": "", "files": {"a": {"bytes": "x"}}}', "is damaged"),
        ("hashes of a table", "_hashes/1.json", DEEP, "is damaged"),
        ("checksums.json", "checksums.json", DEEP, "is damaged"),
        ("model", "config.json", '{"blocks": 9223372036854775808}', "blocks: .* less than or equal to 100"),
        ("model", "config.json", '{"matcher": []}', r"config\.json: "),
        ("detector", "config.json", DETECTOR % ("[]", 2**63), "less than or equal to 100000"),
        ("detector", "config.json", DETECTOR % ("[0]", 1), "places of the attributes"),
        ("word vectors", "vectors.txt", "dog  -2\n", "line 1: expected a word and 2 numbers, found 1"),
        ("text encoder", "vocabulary.json", DEEP, "nested too deeply"),
        ("compare", "a.json", DEEP, "nested too deeply"),
        ("override", "text.txt", "epochs=0x" + "f" * 5_000, "epochs = a number of many digits"),
    ],
)
def test_it_is_refused_in_a_line(tmp_path: Path, parser: str, file: str, content: str, reason: str) -> None:
    PARSERS[parser].write(tmp_path)
    (tmp_path / file).write_bytes(content.encode("latin-1"))
    with pytest.raises(HANError, match=reason):
        PARSERS[parser].read(tmp_path)


@pytest.mark.parametrize(
    ("parser", "file", "content"),
    [
        ("broken.jsonl", "broken.jsonl", '""'),
        ("broken.jsonl", "broken.jsonl", DEEP),
        ("skipped.jsonl", "skipped.jsonl", '[{"photo": []}]'),
        ("metrics.jsonl", "metrics.jsonl", '{"step": []}'),
        ("lavis", "a_val.json", '[{"image": "\\ud800", "caption": "a dog"}]'),
        ("metadata csv", "metadata.csv", "file_name,captions\n1.jpg,\"[{[1]: 2}, 'a']\"\n2.jpg,a"),
    ],
)
def test_it_is_read_or_refused(tmp_path: Path, parser: str, file: str, content: str) -> None:
    PARSERS[parser].write(tmp_path)
    (tmp_path / file).write_text(content)
    try:
        PARSERS[parser].read(tmp_path)
    except HANError as error:
        assert str(error)  # noqa: PT017
