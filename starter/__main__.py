"""`python -m starter`."""

from starter.cli import main

if __name__ == "__main__":
    main()
