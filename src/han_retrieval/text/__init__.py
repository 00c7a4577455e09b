"""Sentences to words, words to ids and vectors, ids to tokens."""

from typing import TYPE_CHECKING

from han_retrieval.lazy import lazy

if TYPE_CHECKING:
    from han_retrieval.text.bigru import BiGRU
    from han_retrieval.text.encoder import TextEncoder, make_text_encoder
    from han_retrieval.text.expansion import expand_vocabulary
    from han_retrieval.text.tokenizer import EncodedSentence, Tokenizer, WordTokenizer, pad_rows
    from han_retrieval.text.vectors import word_vectors
    from han_retrieval.text.vocabulary import END, PAD, START, UNK, Vocabulary
    from han_retrieval.text.words import tokenize, tokenize_each

__all__ = [
    "END",
    "PAD",
    "START",
    "UNK",
    "BiGRU",
    "EncodedSentence",
    "TextEncoder",
    "Tokenizer",
    "Vocabulary",
    "WordTokenizer",
    "expand_vocabulary",
    "make_text_encoder",
    "pad_rows",
    "tokenize",
    "tokenize_each",
    "word_vectors",
]

__getattr__ = lazy(
    __name__,
    {
        "BiGRU": "bigru",
        "END": "vocabulary",
        "EncodedSentence": "tokenizer",
        "PAD": "vocabulary",
        "START": "vocabulary",
        "TextEncoder": "encoder",
        "Tokenizer": "tokenizer",
        "UNK": "vocabulary",
        "Vocabulary": "vocabulary",
        "WordTokenizer": "tokenizer",
        "expand_vocabulary": "expansion",
        "make_text_encoder": "encoder",
        "pad_rows": "tokenizer",
        "tokenize": "words",
        "tokenize_each": "words",
        "word_vectors": "vectors",
    },
)
