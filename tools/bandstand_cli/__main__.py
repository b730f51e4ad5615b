"""`python -m bandstand_cli` is `bandstand`."""

from bandstand_cli import main

main()
