"""Finds out how training features were made, where a card's front end makes others."""
