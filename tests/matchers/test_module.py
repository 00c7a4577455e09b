"""A matcher is an ordinary torch module: called, hooked, exported, trained in parallel."""

from __future__ import annotations

import pytest
import torch
from matchers_of_all_kinds import LEARNING, SENTENCES, random_regions, small_matcher
from torch.export import Dim, export

from han_retrieval.losses import soft_max_triplet_loss
from han_retrieval.text import BiGRU

every = pytest.mark.parametrize("name", LEARNING)


@every
def test_calling_a_matcher_scores_all_pairs_with_gradients_and_hooks(name):
    model = small_matcher(name)
    seen = []
    for module in (model, model.image_encoder, model.text_encoder):
        module.register_forward_hook(lambda hooked, *_: seen.append(type(hooked)))
    items = *random_regions(4, 5), *model.words(SENTENCES)
    scores = model(*items)
    assert torch.equal(scores, model.similarity(*items))
    assert set(seen) == {type(model), type(model.image_encoder), type(model.text_encoder)}
    soft_max_triplet_loss(scores, margin=0.2, power=4).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@every
def test_autocast_encodes_in_half_the_bits_and_scores_nearly_the_same(name):
    model = small_matcher(name)
    regions, mask = random_regions(4, 5)
    items = regions.nan_to_num(), mask, *model.words(SENTENCES)
    with torch.autocast("cpu", torch.bfloat16):
        for backend in ("gram", "reference"):
            scores = model.similarity(*items, backend=backend)
            torch.testing.assert_close(scores.float(), model(*items).float(), atol=0.05, rtol=0)
        soft_max_triplet_loss(scores.float(), margin=0.2, power=4).backward()
    torch.testing.assert_close(scores.float(), model(*items), atol=0.1, rtol=0)
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_hooks_of_a_block_see_the_plain_forward():
    model, seen = small_matcher("han"), []
    model.blocks[0].register_forward_hook(lambda *call: seen.append(call[2][1].shape))
    model.similarity(*random_regions(2, 3), *model.words(["a red ball"]), backend="reference")
    assert seen == [(2, 6, 6)]


@pytest.fixture
def one_process(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'rendezvous'}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("one_process")
@every
def test_distributed_data_parallel_takes_a_matcher(name):
    model, plain = small_matcher(name), small_matcher(name)
    items = *random_regions(4, 5), *model.words(SENTENCES)
    parallel = torch.nn.parallel.DistributedDataParallel(model)
    for each in (parallel, plain):
        soft_max_triplet_loss(each(*items), margin=0.2, power=2).backward()
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


@torch.no_grad()
def test_the_image_encoder_exports_for_any_number_of_images_and_regions():
    encoder = small_matcher("han").image_encoder
    sizes = {0: Dim("images"), 1: Dim("regions")}
    program = export(encoder, random_regions(3, 5), dynamic_shapes=(sizes, sizes)).module()
    for shape in ((3, 5), (7, 2)):
        items = random_regions(*shape)
        assert torch.equal(program(*items), encoder(*items))


@pytest.mark.parametrize("bidirectional", [True, False])
@torch.no_grad()
def test_the_text_encoder_exports_for_any_number_of_texts_of_one_length(bidirectional):
    torch.manual_seed(0)
    encoder = BiGRU(20, 4, 6, bidirectional=bidirectional).eval()

    def texts(count, seed):
        random = torch.Generator().manual_seed(seed)
        mask = torch.rand(count, 7, generator=random) < 0.6  # gaps and all
        mask[:, 3] = True
        return torch.randint(4, 20, (count, 7), generator=random), mask

    sizes = {0: Dim("texts")}
    program = export(encoder, texts(3, 0), dynamic_shapes=(sizes, sizes)).module()
    for items in (texts(3, 0), texts(8, 1)):
        torch.testing.assert_close(program(*items), encoder(*items), rtol=1e-5, atol=1e-6)
