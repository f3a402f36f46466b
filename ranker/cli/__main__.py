"""`python -m ranker.cli`: the command line."""

from ranker.cli import main

main()
