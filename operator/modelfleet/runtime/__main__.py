"""``python -m modelfleet.runtime <verb>``: the programs of the runtime image.

Modules are imported only for the verb at hand: an init container that fetches must not pay for ONNX Runtime.
"""

import importlib
import logging
import sys
from typing import Final

VERBS: Final = ("fetch", "verify", "serve", "resolve", "checkout", "recall")
LAUNCHERS: Final = ("mpi",)
"""Verbs that run a command of the user, and take it as their arguments."""


def main(arguments: list[str]) -> int:
    """Run one verb and return its exit code; 2 on wrong usage."""
    verb, rest = arguments[:1], arguments[1:]
    launches = bool(verb) and verb[0] in LAUNCHERS
    if not verb or (not launches and (rest or verb[0] not in VERBS)):
        print(
            f"usage: python -m modelfleet.runtime {'|'.join(VERBS)}, or {'|'.join(LAUNCHERS)} -- COMMAND…",
            file=sys.stderr,
        )
        return 2
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    program = importlib.import_module(f"modelfleet.runtime.{verb[0]}")
    return int(program.main(rest) if launches else program.main())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
