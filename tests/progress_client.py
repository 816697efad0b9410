"""Reporting progress as a pod does: with the URL and authority of its Job, and a token that is bound to it."""

import http.client
import json
import socket
import ssl
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from e2e.kubectl import Kubectl
from modelfleet.api import names, progress
from tests import operators
from tests.objects import RawObject


@dataclass(frozen=True)
class Answer:
    """What the server said."""

    code: int
    body: RawObject
    headers: dict[str, str] = field(default_factory=dict)


def endpoint(kubectl: Kubectl) -> RawObject:
    """The endpoint that the Service leads to, once there is one: the operator has written it."""
    found = kubectl.wait_for("endpointslice", operators.PROGRESS, lambda obj: obj["ports"])
    return {"address": found["endpoints"][0]["addresses"][0], "port": found["ports"][0]["port"]}


def environment(job: RawObject) -> dict[str, str]:
    """The plain variables of a Job's first container."""
    variables = job["spec"]["template"]["spec"]["containers"][0]["env"]
    return {each["name"]: each["value"] for each in variables if "value" in each}


def token(kubectl: Kubectl, pod: RawObject, audience: str = progress.AUDIENCE) -> str:
    """A token as the kubelet asks for one."""
    metadata = pod["metadata"]
    bound = (
        "--bound-object-kind=Pod",
        f"--bound-object-name={metadata['name']}",
        f"--bound-object-uid={metadata['uid']}",
    )
    return kubectl("create", "token", "default", f"--audience={audience}", *bound).strip()


def post(job: RawObject, port: int, token: str, body: Any, path: str = "", method: str = "POST") -> Answer:
    """Report to the server at this port of the loopback address, under the name that the Job's pods are given."""
    url = urlsplit(environment(job)[progress.URL_ENV])
    authority = job["spec"]["template"]["metadata"]["annotations"][names.PROGRESS_AUTHORITY_ANNOTATION]
    context = ssl.create_default_context(cadata=authority)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    connection = http.client.HTTPSConnection(url.hostname or "", url.port, timeout=60)
    with socket.create_connection(("127.0.0.1", port), timeout=60) as plain:
        connection.sock = context.wrap_socket(plain, server_hostname=url.hostname)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"} if token else {}
        connection.request(method, path or url.path, data, headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
    return Answer(answer.status, json.loads(text), dict(answer.headers))


def said(percentage: int | None = None, **metrics: str) -> RawObject:
    """A report as Trainer's clients send it."""
    status: RawObject = {"lastUpdatedTime": "2026-11-21T06:00:00.123456+00:00"}
    if percentage is not None:
        status["progressPercentage"] = percentage
    if metrics:
        status["metrics"] = [{"name": name, "value": value} for name, value in metrics.items()]
    return {"trainerStatus": status}
