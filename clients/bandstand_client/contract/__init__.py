"""What a Bandstand server answers: each operation, with its options and its answer, declared once.

Server, clients and command line read these declarations; this package imports nothing but the
standard library. docs/adding.md shows how one is added.
"""
