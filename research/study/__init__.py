"""HAN, its peers and its parts, each trained in the same way; docs/study.md has the results."""
