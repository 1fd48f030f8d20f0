"""How a machine joins a grid: by one short code, or by a token, over a line that nobody in between can read or change."""
