"""The HTTPS server that the pods of training jobs tell their progress: a report becomes a key in the queue.

The protocol is in ``api/progress.py``; answers, codes included, are those of Kubeflow Trainer's ``pkg/statusserver``,
and 409 for a pod whose attempt is over, 429 for one that says too much, 503 where this replica does not lead.
"""

import asyncio
import logging
import ssl
import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from aiohttp import hdrs, web
from pydantic import ValidationError

from modelfleet.api import names, progress
from modelfleet.cluster.certificates import Papers
from modelfleet.cluster.errors import ApiError
from modelfleet.cluster.tokens import Tokens, claimed
from modelfleet.cluster.view import View
from modelfleet.handlers.rate import Rate
from modelfleet.plan import job_state
from modelfleet.plan.outcome import RawObject
from modelfleet.plan.training import reporter, termination
from modelfleet.plan.training.trainer_status import Report
from modelfleet.reconcile.key import Key
from modelfleet.reconcile.reports import Reports

BODY_SECONDS: Final = 10.0
"""How long a pod may take to send its report."""

RETRY_SECONDS: Final = 5

_CODES: Final = {"Forbidden": 403, "NotFound": 404, "Conflict": 409}

logger = logging.getLogger(__name__)


class ProgressServer:
    """Listens from :meth:`start` to :meth:`stop`."""

    def __init__(
        self,
        view: View,
        tokens: Tokens,
        reports: Reports,
        *,
        leads: Callable[[], bool],
        now: Callable[[], datetime],
        observe: Callable[[int], None],
    ) -> None:
        self._view = view
        self._tokens = tokens
        self._reports = reports
        self._leads = leads
        self._now = now
        self._observe = observe
        # Trainer's clients report at most every 5 s, and twice in a row at the end.
        self._reports_rate = Rate(per_second=1.0, burst=10)
        # A pod needs one in five minutes. More is asked for in its name by somebody else.
        self._reviews_rate = Rate(per_second=0.2, burst=3)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
        app = web.Application(client_max_size=progress.BODY_LIMIT + 1)
        app.router.add_post(progress.path("{namespace}", "{name}"), self._take)
        app.router.add_route("*", "/{anything:.*}", self._unknown)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)

    def use(self, papers: Papers) -> None:
        """Show this certificate from the next handshake on."""
        # The ssl module reads files only.
        with tempfile.TemporaryDirectory() as folder:
            certificate, key = Path(folder, "tls.crt"), Path(folder, "tls.key")
            key.touch(mode=0o600)
            certificate.write_bytes(papers.certificate)
            key.write_bytes(papers.key)
            self._tls.load_cert_chain(certificate, key)

    async def start(self, host: str, port: int) -> int:
        """Begin to listen; the port. :meth:`use` comes first."""
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port, ssl_context=self._tls).start()
        found: int = self._runner.addresses[0][1]
        return found

    async def stop(self) -> None:
        """Stop listening; requests under way are answered."""
        await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.StreamResponse:
        answer = await self._answer(request)
        self._observe(answer.status)
        return answer

    async def _unknown(self, request: web.Request) -> web.StreamResponse:
        return _refusal(404, "NotFound", f"there is nothing but POST {progress.path('<namespace>', '<name>')}")

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if not self._leads():
            return _refusal(503, "ServiceUnavailable", "this replica does not lead; try again")
        if (request.content_length or 0) > progress.BODY_LIMIT:
            return _too_large()
        key = Key("TrainingJob", request.match_info["namespace"], request.match_info["name"])
        pod = await self._sender(request, key)
        if isinstance(pod, web.StreamResponse):
            return pod
        job_name = pod["metadata"]["labels"].get(job_state.JOB_NAME_LABEL, "")
        job = self._view.get("Job", key.namespace, job_name)
        found = reporter.admit(self._view.get(*key), job, pod, key.namespace, key.name)
        if isinstance(found, reporter.NotTaken):
            return _refusal(_CODES[found.reason], found.reason, found.message)
        body = await _body(request)
        if isinstance(body, web.StreamResponse):
            return body
        obj, told = self._view.get(*key), body.trainer_status
        if told is not None:
            report = Report(
                found.step,
                found.attempt,
                self._now(),
                told.progress_percentage,
                told.estimated_remaining_seconds,
                {metric.name: metric.value for metric in told.metrics or ()},
            )
            self._reports.add(key, report)
        asked = termination.told((obj or {}).get("status") or {}, found.step, found.attempt)
        return web.Response(
            text=body.model_dump_json(by_alias=True, exclude_none=True),
            content_type="application/json",
            headers={progress.REQUEST_HEADER: asked} if asked else None,
        )

    async def _sender(self, request: web.Request, key: Key) -> RawObject | web.StreamResponse:
        """The pod that sent this, by its token; or what it is told."""
        token = _token(request)
        pod = claimed(token, progress.AUDIENCE)
        held = self._view.get("Pod", pod.namespace, pod.name) if pod is not None else None
        # What follows tells nobody anything about pods that are not his: until it is verified, all is one refusal.
        forbidden = _refusal(
            403, "Forbidden", f"a token of a pod of this training job is needed, for {progress.AUDIENCE}"
        )
        if pod is None or held is None or held["metadata"]["uid"] != pod.uid or pod.namespace != key.namespace:
            return forbidden
        if (held["metadata"].get("labels") or {}).get(names.TRAINING_JOB_LABEL) != key.name:
            return forbidden
        identity = self._tokens.remembered(token)
        if identity is None:
            if not self._reviews_rate.allows(pod.uid):
                return _busy("too many tokens of this pod")
            try:
                identity = await self._tokens.review(token)
            except ApiError as error:
                logger.warning("A pod's token could not be reviewed: %s", error)
                return _refusal(503, "ServiceUnavailable", "the token could not be verified; try again")
        if identity != pod:
            return forbidden
        if not self._reports_rate.allows(pod.uid):
            return _busy("too many reports of this pod: one in 5 s is enough")
        return held


def _token(request: web.Request) -> str:
    """Of ``Authorization: Bearer …``; empty where there is none."""
    words = request.headers.get(hdrs.AUTHORIZATION, "").split()
    return words[1] if len(words) == 2 and words[0].lower() == "bearer" else ""


async def _body(request: web.Request) -> progress.Progress | web.StreamResponse:
    try:
        async with asyncio.timeout(BODY_SECONDS):
            data = await request.read()
    except web.HTTPRequestEntityTooLarge:
        return _too_large()
    except TimeoutError:
        return _refusal(408, "Timeout", f"the report did not come within {BODY_SECONDS:.0f} s")
    try:
        return progress.Progress.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        return _refusal(422, "Invalid", f"{place}: {first['msg']}" if place else str(first["msg"]))


def _too_large() -> web.StreamResponse:
    return _refusal(413, "RequestEntityTooLarge", f"a report has at most {progress.BODY_LIMIT} bytes")


def _busy(why: str) -> web.StreamResponse:
    return _refusal(429, "TooManyRequests", why)


def _refusal(code: int, reason: str, message: str) -> web.StreamResponse:
    """A Status, as the API server would answer."""
    status: dict[str, Any] = {"status": "Failure", "message": message, "reason": reason, "code": code}
    later = {"Retry-After": str(RETRY_SECONDS)} if code in (429, 503) else None
    answer = web.json_response({"kind": "Status", "apiVersion": "v1", **status}, status=code, headers=later)
    if code == 503:
        # A client that keeps its connection would stay with a replica that leads no more.
        answer.force_close()
    return answer
