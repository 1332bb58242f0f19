"""PYTHONPATH for a process that a test starts: a folder in front of what is there already.

What is there already names the copy of the checkout that benchmarks/mutants.py changed; without it the
process would run the code as it is, and no change would ever be seen there.
"""

import os
from pathlib import Path


def before(folder: Path) -> str:
    return os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
