"""Python calls on a grid: the client's side of their jobs."""
