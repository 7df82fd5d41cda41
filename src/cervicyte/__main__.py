"""`python -m cervicyte` is the command line."""

from cervicyte.cli.main import main

main()
