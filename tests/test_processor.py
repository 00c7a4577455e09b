"""What the processor can do: which arithmetic is the faster, and on how many threads."""

import pytest
import torch
from llvmlite import binding

from han_retrieval.processor import one_thread, prefers_bfloat16


@pytest.mark.parametrize(
    ("name", "features", "expected"),
    [
        ("znver4", {"avx512bf16"}, True),
        ("znver3", {"avx2"}, False),
        ("sapphirerapids", {"avx512bf16", "amx-bf16"}, True),
        ("emeraldrapids", {"avx512bf16"}, False),  # AMX hidden by a virtual machine: half the rate of float32
        ("neoverse-v1", {"bf16"}, True),
        ("apple-m1", set(), False),
    ],
)
def test_bfloat16_is_used_where_it_is_the_faster(name, features, expected, monkeypatch):
    monkeypatch.setattr(binding, "get_host_cpu_name", lambda: name)
    monkeypatch.setattr(binding, "get_host_cpu_features", lambda: dict.fromkeys(features, True))
    prefers_bfloat16.cache_clear()
    try:
        assert prefers_bfloat16() is expected
    finally:
        prefers_bfloat16.cache_clear()


@pytest.fixture
def three_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(threads)


def test_one_thread_lasts_as_long_as_its_block_also_after_an_error(three_threads):
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3
    with pytest.raises(ValueError, match="no"), one_thread():
        raise ValueError("no")
    assert torch.get_num_threads() == 3
