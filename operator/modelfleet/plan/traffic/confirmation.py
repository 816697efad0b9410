"""What is asked of the data plane to see whether it follows a route, and what its answers mean.

An implementation that says nothing of its proxies (Istio, by default) leaves one way to know: requests as clients make
them, with the canary's header and without, and whose pod answers. Asking is I/O and happens elsewhere. A share of the
requests is not measured so: of two versions that may answer, either answer is right.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from modelfleet.api.traffic import Probe
from modelfleet.plan import conditions
from modelfleet.plan.installation import Installation
from modelfleet.plan.traffic.probe import Ask, Question, Reply
from modelfleet.plan.traffic.route import Route

PATIENCE: Final = timedelta(seconds=20)
"""How long after its change a route may go unconfirmed before that is told as a fault."""

TEXT_LENGTH: Final = 150


def question(spec: Probe, route: Route, header: tuple[str, str] | None, mark: str) -> Question:
    """What to ask about a route with this hash; ``header`` is the canary's, in force or not."""
    shared = frozenset(revision for revision, share in route.shares if share)
    asks = [Ask(None, shared)]
    if header is not None:
        chosen = route.header is not None and route.candidate
        asks.append(Ask(header, frozenset({route.candidate}) if chosen and route.candidate else shared))
    return Question(mark, spec.url, spec.host or "", tuple(asks))


def why_not(replies: Sequence[Reply]) -> str:
    """Why these replies do not confirm a route, for a person; empty where they do."""
    for reply in replies:
        header = reply.ask.header
        what = f"a request with {header[0]}: {header[1]}" if header else "a request without the canary's header"
        if reply.error:
            return conditions.shorten(reply.error, TEXT_LENGTH)
        if not reply.revision:
            return f"{what} is answered without the header x-model-revision: by something else than a serving pod"
        if reply.revision not in reply.ask.allowed:
            expected = " or ".join(sorted(reply.ask.allowed))
            return f"{what} is answered by revision {reply.revision}, not {expected}"
    return ""


def forbidden(spec: Probe, installation: Installation) -> bool:
    """Whether the installation lists no address that the probe's URL lies at or below."""
    allowed = [address.rstrip("/") for address in installation.probe_addresses]
    return not any(spec.url.rstrip("/") == each or spec.url.startswith(f"{each}/") for each in allowed)
