"""Python calls on the grid: how functions travel, and how what they return comes back."""
