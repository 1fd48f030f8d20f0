"""`python -m discogrid` is the command `discogrid`."""

from discogrid.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
