"""`python -m discogrid_tui`: the dashboard of the grid that a command without flags means."""

import sys

from discogrid.grid import choose_grid
from discogrid_tui.app import run

if __name__ == "__main__":
    sys.exit(run(choose_grid()))
