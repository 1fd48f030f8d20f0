"""The box a task runs in: one module a level, behind the Protocol in box.py.

`strict` (Linux: namespaces and seccomp through bwrap) and `none` (limits and a process group) exist; the level
between them, `confined`, stands beside them as confined.py once it is built.
"""
