"""The process of benchmarks/peers.py that lives in one environment and calls what it is told, one at a time.

Reads lines of JSON, {"call": "module:function", "with": {...}}, and answers each with {"value": ...} or
{"error": text}. Modules are those of this folder, which stands last on the path: a peer's package may have
the name of a script here ('streaming'). What the called code prints goes to stderr, so that nothing but
answers is on stdout.
"""

import importlib
import json
import os
import sys
import traceback


def main() -> None:
    sys.path.append(sys.path.pop(0))
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            module, _, name = asked["call"].partition(":")
            answer = {"value": getattr(importlib.import_module(module), name)(**asked["with"])}
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
