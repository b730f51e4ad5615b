"""Finds the settings of training features that differ from a card's front end."""
