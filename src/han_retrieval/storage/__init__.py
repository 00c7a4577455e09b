"""Tables on disk, locks and commits: what the region store and the index are built on."""
