"""Scenes that the program draws itself: coloured things in relations, with captions and word-to-region truth."""

from research.scenes.captions import Caption, captions
from research.scenes.compose import Scene, Thing, compose
from research.scenes.render import render
from research.scenes.write import write_scenes

__all__ = ["Caption", "Scene", "Thing", "captions", "compose", "render", "write_scenes"]
