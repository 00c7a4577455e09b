"""Scenes that a program draws: coloured things in relations, with captions and the boxes of their phrases."""

from research.scenes.captions import Caption, captions
from research.scenes.compose import Scene, Thing, compose
from research.scenes.render import render
from research.scenes.write import write_scenes

__all__ = ["Caption", "Scene", "Thing", "captions", "compose", "render", "write_scenes"]
