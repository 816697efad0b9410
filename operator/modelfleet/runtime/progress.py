"""Telling the operator how far a training is, without the training ever waiting for it or failing by it.

A thread sends the latest word; what it replaces was never news. The protocol is in ``modelfleet.api.progress``.
"""

import json
import logging
import math
import os
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from modelfleet.api import progress

logger = logging.getLogger(__name__)

INTERVAL_SECONDS: Final = 5.0
"""Between two reports; the operator writes no more often than every 10 s."""

LONGEST_PAUSE: Final = 60.0
REQUEST_SECONDS: Final = 5.0
CLOSE_SECONDS: Final = 3.0
"""How long the end of a step waits for its last word to be sent."""

_OVER: Final = 409
_MALFORMED: Final = (413, 422)


class Reporter:
    """Reports of one process. Without the operator's variables in the environment it does nothing."""

    def __init__(
        self,
        environment: Mapping[str, str] = os.environ,
        interval: float = INTERVAL_SECONDS,
        hear: Callable[[object], None] = lambda _: None,
    ) -> None:
        self._environment = environment
        self._interval = interval
        self._hear = hear
        self._changed = threading.Condition()
        self._pending: dict[str, Any] = {}
        self._closing = False
        self._thread: threading.Thread | None = None
        self._told_why = ""

    def tell(
        self,
        percentage: float | None = None,
        metrics: Mapping[str, Any] | None = None,
        remaining_seconds: float | None = None,
    ) -> None:
        """Have this sent soon; returns at once. A field left out keeps what it had."""
        if progress.URL_ENV not in self._environment:
            return
        news: dict[str, Any] = {}
        if (done := _whole(percentage)) is not None:
            news["progressPercentage"] = max(0, min(100, done))
        if (left := _whole(remaining_seconds)) is not None:
            news["estimatedRemainingSeconds"] = max(0, min(2**31 - 1, left))
        if metrics:
            news["metrics"] = {str(name)[:64]: text(value) for name, value in metrics.items() if str(name)}
        with self._changed:
            if self._closing:
                return
            self._pending = _joined(self._pending, news)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="modelfleet-progress", daemon=True)
                self._thread.start()
            self._changed.notify()

    def close(self) -> None:
        """Send the last word, if that is quickly done, and no more after it."""
        with self._changed:
            self._closing = True
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        due, pause = 0.0, self._interval
        while True:
            with self._changed:
                while not self._closing and (not self._pending or time.monotonic() < due):
                    self._changed.wait(max(0.0, due - time.monotonic()) if self._pending else None)
                news, self._pending = self._pending, {}
                closing = self._closing
            code = self._send(news) if news else 200
            if closing or code == _OVER:
                self._stop()
                return
            if code != 200 and code not in _MALFORMED:
                pause = min(2 * pause, LONGEST_PAUSE)
                with self._changed:
                    self._pending = _joined(news, self._pending)
            else:
                pause = self._interval
            due = time.monotonic() + pause

    def _stop(self) -> None:
        with self._changed:
            self._closing = True

    def _send(self, news: Mapping[str, Any]) -> int:
        """The code of the answer; 0: there was none."""
        body = {**news, "lastUpdatedTime": datetime.now(UTC).isoformat()}
        if "metrics" in news:
            body["metrics"] = [{"name": name, "value": value} for name, value in news["metrics"].items()]
        try:
            token = Path(self._environment[progress.TOKEN_ENV]).read_text().strip()
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
            data = json.dumps({"trainerStatus": body}).encode()
            request = urllib.request.Request(  # noqa: S310 (the operator's own URL)
                self._environment[progress.URL_ENV], data, headers, method="POST"
            )
            authority = self._environment.get(progress.AUTHORITY_ENV)
            tls = urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=authority))
            # Within the cluster no proxy is asked, whatever the image's environment says.
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), tls)
            with opener.open(request, timeout=REQUEST_SECONDS) as answer:
                answer.read()
                self._hear(answer.headers.get(progress.REQUEST_HEADER))
                self._told_why = ""
                return 200
        except urllib.error.HTTPError as error:
            self._say(f"{error.code}: {_message(error)}")
            return int(error.code)
        except Exception as error:
            # Whatever it is: a training must not end for its account of itself.
            self._say(f"{type(error).__name__}: {error}")
            return 0

    def _say(self, why: str) -> None:
        if why != self._told_why:
            logger.warning("progress could not be told: %s", why)
        self._told_why = why


def _joined(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    metrics = {**before.get("metrics", {}), **after.get("metrics", {})}
    return {**before, **after, **({"metrics": metrics} if metrics else {})}


def _whole(number: float | None) -> int | None:
    return None if number is None or not math.isfinite(number) else int(number)


def text(value: Any) -> str:
    """A number as it reads back; anything else, as a tensor of one element, as the number it is."""
    if isinstance(value, str):
        return value[:64] or " "
    if isinstance(value, int):
        return str(value)[:64]
    try:
        return repr(float(value))
    except (TypeError, ValueError):
        return str(value)[:64] or " "


def _message(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read(4096))["message"])
    except Exception:
        return str(error.reason)
