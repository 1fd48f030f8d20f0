"""The same Python calls over discogrid and over its peers, in one table."""
