"""The operator as a program: ``python -m modelfleet``. Exit code 0 after SIGTERM, 2 for unusable settings."""

import asyncio
import gc
import logging
import signal
import sys
from typing import Final

import modelfleet.lean_imports  # noqa: F401  before whatever imports Kubernetes' package

# isort: split
from modelfleet import application, event_loop, logs, settings
from modelfleet.reconcile import edge_deployment, model_version, training_job
from modelfleet.reconcile.context import Reconcile

RECONCILERS: Final[dict[str, Reconcile]] = {
    "ModelVersion": model_version.reconcile,
    "TrainingJob": training_job.reconcile,
    "EdgeDeployment": edge_deployment.reconcile,
}

GARBAGE: Final = (5_000, 5, 5)
"""Objects made since the last look for cycles, and looks before an older generation's turn.

Kopf makes a cycle of each event, with the whole object in it: what waits to be found is memory. Looked through are the
few that are young, and all only when they became a quarter more, so the view, which holds everything and none of it in
cycles, makes this no dearer.
"""


async def operate(chosen: settings.Settings) -> None:
    """Run one replica until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    replica = await application.build(chosen, RECONCILERS)
    await replica.run(stop)


def main() -> int:
    """Entry point."""
    try:
        chosen = settings.load()
    except settings.SettingsError as error:
        sys.stderr.write(f"modelfleet: {error}\n")
        return 2
    logs.configure(chosen.log_format, chosen.log_level)
    # What was imported stays: it need not be looked at ever again.
    gc.freeze()
    gc.set_threshold(*GARBAGE)
    try:
        event_loop.run(operate(chosen))
    except Exception:
        logging.getLogger("modelfleet").exception("The operator cannot go on")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
