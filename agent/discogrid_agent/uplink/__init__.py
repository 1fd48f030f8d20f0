"""A network of its own for a task: a router between its box and a program that speaks for it on the host.

`router.py` is the process that builds and keeps it, `attachment.py` the agent's side, `off_limits.py` what it shuts.
"""
