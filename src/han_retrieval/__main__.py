"""``python -m han_retrieval VERB``, the same as ``han VERB``."""

from han_retrieval.cli.main import main

if __name__ == "__main__":
    main()
