"""Backbones: frozen networks that describe the boxes of any detector; see ``backbone.py``."""
