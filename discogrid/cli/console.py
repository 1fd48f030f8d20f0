"""What every command gets: where it writes, and how loud."""

from discogrid.cli.narration import Narration
from discogrid.cli.output import Output
from discogrid.cli.style import Style, wants_colour


class Console:
    """Stdout and stderr of one command, and the options that every command has."""

    def __init__(self) -> None:
        """Stand on the process's own streams."""
        self.output: Output = Output()
        self.narration: Narration = Narration()
        self.debug = False
        self.coloured = False  # whether the command line said when to colour
        self.colour("auto")

    def colour(self, choice: str) -> None:
        """Colour both streams: `auto`, `always` or `never`."""
        self.output.style = Style(on=wants_colour(choice, self.output.stream))
        self.narration.style = Style(on=wants_colour(choice, self.narration.stream))
