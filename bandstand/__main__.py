"""`python -m bandstand` is `bandstand`."""

from bandstand.cli import main

main()
