"""`python -m killswitch` is the command line."""

from killswitch.cli.main import main

main()
