"""Data to checkpoint: the small models that ship with Bandstand."""
