"""An index over HTTP: search with evidence, photos, and the page that people use."""

from han_retrieval.serve.app import create_app
from han_retrieval.serve.engine import Engine
from han_retrieval.serve.limits import Limits
from han_retrieval.serve.run import check_access, listen, serve

__all__ = ["Engine", "Limits", "check_access", "create_app", "listen", "serve"]
