"""Language models as text encoders: words, sub-words, padding, and that they read what they were trained to read."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import transformers
from matchers_of_all_kinds import small_matcher
from tiny_language_models import KINDS, SENTENCES, tiny_language_model

from han_retrieval.errors import ConfigError, QueryError
from han_retrieval.matchers import HANConfig
from han_retrieval.text import make_text_encoder, pad_rows, tokenize
from han_retrieval.text.bert import BertBackbone
from han_retrieval.text.hf import TransformersBackbone, _positions
from han_retrieval.text.subwords import EMPTY
from han_retrieval.text.tokenizer import EncodedSentence


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = tmp_path_factory.mktemp("language-models")
    return {kind: tiny_language_model(made / kind, kind) for kind in KINDS}


def encoder(folder, **options):
    torch.manual_seed(1)
    plain = {"text_layers": "last", "text_head": "linear"}
    config = HANConfig(joint_size=8, text_encoder=f"hf:{folder}", **(plain | options))
    return make_text_encoder(config.text_encoder, config).eval()


def rows(model, sentences):
    return pad_rows([torch.tensor(model.tokenizer.encode(sentence).ids) for sentence in sentences])


@pytest.mark.parametrize("kind", KINDS)
def test_words_are_those_of_tokenize(folders, kind):
    model = encoder(folders[kind])
    for sentence in SENTENCES:
        encoded = model.tokenizer.encode(sentence)
        words = tokenize(sentence)
        assert [*encoded.words, *encoded.left_out] == words
        assert len(encoded.spans) == len(encoded.known) == len(encoded.words)
        assert all(start < end for start, end in encoded.spans)
        assert all(any(place >= 0 for place in row) for row in encoded.ids)  # no row of punctuation alone


@pytest.mark.parametrize("kind", KINDS)
def test_a_half_of_a_character_is_no_word(folders, kind):
    words = encoder(folders[kind]).tokenizer.encode("a dog \ud83d runs").words
    assert words == ("a", "dog", "runs")


def test_a_model_without_an_end_of_its_positions_reads_what_its_tokenizer_does():
    text = SimpleNamespace(config=SimpleNamespace(max_position_embeddings=-1))  # XLNet
    assert _positions(text, SimpleNamespace(model_max_length=24)) == 24


def test_a_first_word_that_is_too_long_is_told():
    model = small_matcher("han", text_encoder="bigru")
    left = EncodedSentence(ids=[], words=(), known=(), spans=(), left_out=("z" * 90,))
    model.text_encoder.tokenizer = SimpleNamespace(encode=lambda _: left)
    with pytest.raises(QueryError, match=r"the first word of 'zzz.* is longer than the text encoder can read"):
        model.encode_sentence("z" * 90)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("head", ["linear", "gru"])
@pytest.mark.parametrize("layers", ["last", "mix"])
def test_tokens_do_not_depend_on_padding_or_on_other_sentences(folders, kind, head, layers):
    model = encoder(folders[kind], text_head=head, text_layers=layers)
    if layers == "mix":
        model.mix.data.normal_()
    words, mask = rows(model, SENTENCES)
    with torch.no_grad():
        together = model(words, mask)
        wider, wider_mask = (
            torch.nn.functional.pad(each, pad) for each, pad in ((words, (0, 0, 0, 5)), (mask, (0, 5)))
        )
        padded = model(wider, wider_mask)
    assert together.shape == (*mask.shape, 8)
    assert (together[~mask] == 0).all()
    assert (padded[:, : mask.shape[1]] - together).abs().max() < 1e-5
    for one, there, tokens in zip(words, mask, together, strict=True):
        with torch.no_grad():
            alone = model(one[there].unsqueeze(0), there[there].unsqueeze(0))[0]
        assert (alone - tokens[there]).abs().max() < 1e-5
        assert alone.std() > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_the_language_model_reads_sentences_as_it_was_trained_to(folders, kind):
    model = encoder(folders[kind])
    tokenizer = transformers.AutoTokenizer.from_pretrained(folders[kind])
    tokenizer.backend_tokenizer.no_truncation()
    sentences = [sentence for sentence in SENTENCES if not model.tokenizer.encode(sentence).left_out]
    words, mask = rows(model, sentences)
    for sentence, one, there in zip(sentences, words, mask, strict=True):
        ids, valid, _ = model._sequences(one[there].unsqueeze(0), there[there].unsqueeze(0))
        assert valid.all()
        assert ids[0].tolist() == tokenizer(sentence, padding=False)["input_ids"]


def test_words_are_the_means_of_their_sub_words(folders):
    model = encoder(folders["bert"])
    words, mask = rows(model, ["Two snowboarder's, (hats)"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(folders["bert"])
    found = tokenizer("Two snowboarder's, (hats)", padding=False, return_offsets_mapping=True, return_tensors="pt")
    offsets = found.pop("offset_mapping")[0].tolist()
    with torch.no_grad():
        states = transformers.AutoModel.from_pretrained(folders["bert"]).eval()(**found).last_hidden_state[0]
    expected = []
    for first, last in ((0, 3), (4, 15), (15, 17), (20, 24)):
        inside = [i for i, (start, end) in enumerate(offsets) if first <= start < end <= last]
        expected.append(states[inside].mean(0))
    assert (model.frozen_tokens(words, mask)[0] - torch.stack(expected)).abs().max() < 1e-5


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_two_towers_give_their_own_vector_of_a_sentence(folders, kind):
    model = encoder(folders[kind])
    words, mask = rows(model, SENTENCES[:3])
    pooled = model.pooled(words, mask)
    assert pooled.shape == (3, 12)
    tower = transformers.AutoModel.from_pretrained(folders[kind]).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folders[kind])
    padding = "max_length" if kind == "siglip" else False  # as SigLIP was trained
    for sentence, vector in zip(SENTENCES[:3], pooled, strict=True):
        inputs = tokenizer(sentence, padding=padding, max_length=24, return_tensors="pt")
        with torch.no_grad():
            found = tower.get_text_features(inputs["input_ids"]).pooler_output[0]
        assert (found - vector).abs().max() < 1e-5


def test_a_sentence_that_is_too_long_is_cut_at_a_word(folders):
    model = encoder(folders["bert"])
    encoded = model.tokenizer.encode("snow " * 30)
    assert 0 < len(encoded.words) < 30
    assert len(encoded.words) + len(encoded.left_out) == 30
    sub_words = sum(place != EMPTY for row in encoded.ids for place in row)
    assert sub_words <= 22 < sub_words + 4  # 24 positions, start and end of the sentence among them
    words, mask = rows(model, ["snow " * 30])
    assert torch.isfinite(model(words, mask)).all()


def test_other_scripts(folders):
    model = encoder(folders["roberta"])
    for sentence, words in (
        ("рыжая собака", ["рыжая", "собака"]),
        ("狗在雪", ["狗", "在", "雪"]),
        ("हिन्दी", ["हिन्दी"]),
    ):
        encoded = model.tokenizer.encode(sentence)
        assert [*encoded.words, *encoded.left_out] == words
        assert all(encoded.known)
    assert encoder(folders["bert"]).tokenizer.encode("a 狗 ball").known == (True, False, True)


def test_bert_in_torch_s_layers_is_that_of_transformers(folders):
    theirs, ours = TransformersBackbone(folders["bert"], name="x"), BertBackbone(folders["bert"], name="x")
    assert ours.fingerprint == theirs.fingerprint
    assert (ours.start, ours.end, ours.padding) == (theirs.start, theirs.end, theirs.padding)
    assert (ours.hidden_size, ours.layers, ours.tokenizer.most) == (16, 3, theirs.tokenizer.most)
    ids = torch.randint(4, 60, (3, 9))
    mask = torch.arange(9) < torch.tensor([[9], [4], [1]])
    for every in (False, True):
        expected, found = theirs.states(ids, mask, every=every), ours.states(ids, mask, every=every)
        assert (expected - found)[:, mask].abs().max() < 1e-5
    ours.train()  # only in training mode does torch leave its own fast path
    for part in ours.modules():
        if isinstance(part, torch.nn.Dropout | torch.nn.MultiheadAttention):
            part.p = part.dropout = 0.0
    assert (theirs.states(ids, mask, every=True) - ours.states(ids, mask, every=True))[:, mask].abs().max() < 1e-5


def test_minilm_means_what_words_mean():
    config = HANConfig(joint_size=8, text_encoder="minilm")
    model = make_text_encoder("minilm", config)
    vectors = model.pooled(*rows(model, ["A dog runs on the beach.", "a puppy by the sea", "Two men repair a car."]))
    assert vectors.shape == (3, 384)
    assert vectors.norm(dim=1) == pytest.approx(1, abs=1e-5)
    near, far = vectors[0] @ vectors[1], vectors[0] @ vectors[2]
    assert near > far + 0.3


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_tokens_in_the_space_that_photos_share(folders, kind):
    plain, shared = encoder(folders[kind]), encoder(f"{folders[kind]}@proj")
    assert (plain.frozen_size, shared.frozen_size) == (16, 12)
    assert plain.fingerprint != shared.fingerprint
    words, mask = rows(shared, SENTENCES[:2])
    ids, valid, _ = shared._sequences(words[:1, : mask[0].sum()], mask[:1, : mask[0].sum()])
    states = shared.backbone.states(ids, valid, every=False)[0, 0]
    if kind == "clip":  # the last sub-word's is the sentence's
        assert (states[-1] - shared.pooled(words, mask)[0]).abs().max() < 1e-5
    assert shared.frozen_tokens(words, mask).shape == (*mask.shape, 12)
    assert encoder(f"{folders[kind]}@proj", text_layers="mix").mix is None  # there is one layer in that space
    with pytest.raises(ConfigError, match="a bert shares no space with photos"):
        encoder(f"{folders['bert']}@proj")
