"""Composition in plain async Python; no serving framework is imported here."""
