"""Sentences to words, words to ids and vectors."""

from han_retrieval.text.more_words import more_words
from han_retrieval.text.tokenizer import tokenize
from han_retrieval.text.vocabulary import END, PAD, START, UNK, Vocabulary
from han_retrieval.text.word_vectors import word_vectors

__all__ = ["END", "PAD", "START", "UNK", "Vocabulary", "more_words", "tokenize", "word_vectors"]
