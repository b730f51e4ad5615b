"""Models: their cards, the sources of their checkpoints, and the repository of versions."""
