"""The operations of a Bandstand server: each with its options and its answer, declared once.

Server, clients and command line use these declarations; this package imports only the standard
library. docs/adding.md describes how to add one.
"""
