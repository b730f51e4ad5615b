"""Training: from tables of features to checkpoints of genre models."""
