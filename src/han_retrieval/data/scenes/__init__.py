"""Scenes that the program draws itself: coloured things in relations, with captions and word-to-region truth."""

from han_retrieval.data.scenes.captions import Caption, captions
from han_retrieval.data.scenes.compose import Scene, Thing, compose
from han_retrieval.data.scenes.render import render
from han_retrieval.data.scenes.write import write_scenes

__all__ = ["Caption", "Scene", "Thing", "captions", "compose", "render", "write_scenes"]
