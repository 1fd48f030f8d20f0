"""The box a task runs in: one module a level (strict, confined, unboxed), behind the Protocol in box.py."""
