"""Names that tools built on this package use although they are not part of its public surface."""
