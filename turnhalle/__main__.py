"""`python -m turnhalle`."""

from turnhalle.cli import main

if __name__ == "__main__":
    main()
