"""Opens a line of calls; this machine's own grid, where it is meant and does not run, comes up beside our own imports."""

import os
from typing import TYPE_CHECKING

from discogrid import places
from discogrid.own import begin_own_grid
from discogrid.remote.options import CallOptions

if TYPE_CHECKING:
    from discogrid.calls.dispatch import Dispatcher


def open_calls(options: CallOptions) -> "Dispatcher":
    """See `opening.open_calls`."""
    if means_own_grid(options):
        begin_own_grid()
    from discogrid.remote import opening  # with it sockets, signatures and messages: a tenth of a second

    return opening.open_calls(options)


def means_own_grid(options: CallOptions) -> bool:
    """Whether `choose_grid` will say so, as far as can be told without loading it."""
    if options.grid is not None:
        return options.grid == places.OWN and not options.local
    return options.local or not (os.environ.get(places.COORDINATOR_VARIABLE) or places.joined_grids())
