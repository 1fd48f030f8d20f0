#!/usr/bin/env python3
"""Say hello from wherever this runs: the smallest task.

discogrid submit hello_disco.py               one task
discogrid submit hello_disco.py *.txt         one task for each file, greeted by name
"""

import os
import platform
import sys
from pathlib import Path

names = sys.argv[1:] or ["disco"]
where = f"task {int(os.environ.get('DISCOGRID_INDEX', '0')) + 1} of {os.environ.get('DISCOGRID_COUNT', '1')}"
greeting = f"hello {', '.join(names)}! This is {where}, Python {platform.python_version()}."
print(greeting)

result = Path("run-result")
result.mkdir(exist_ok=True)
(result / f"hello_{Path(names[0]).name}.txt").write_text(greeting + "\n")
