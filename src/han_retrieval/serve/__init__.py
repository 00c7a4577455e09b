"""The search page and the HTTP API of an index."""

from han_retrieval.serve.app import create_app
from han_retrieval.serve.limits import Limits
from han_retrieval.serve.run import check_access, listen, serve
from han_retrieval.serve.service import SearchService

__all__ = ["Limits", "SearchService", "check_access", "create_app", "listen", "serve"]
