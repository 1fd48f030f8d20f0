"""Movies for the demo, the tests and the first try: made here, cut, and put together again. Needs the `demo` extra."""
