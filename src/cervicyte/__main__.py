"""`python -m cervicyte` is the command line."""

from cervicyte.cli import main

main()
