"""kubectl as the demo, the benchmark and the tests use it: the real program, called with lists of words.

What a user types is what runs here; reading answers as JSON is all that is added. Nothing here knows our kinds.
"""

import json
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

RawObject = dict[str, Any]


class KubectlError(RuntimeError):
    """kubectl exited non-zero; the message is what it printed on stderr."""


class NotReached(AssertionError):
    """A state that was waited for did not come; the message tells the last one seen."""


@dataclass(frozen=True)
class Kubectl:
    """kubectl bound to a cluster, and optionally to a namespace and to a user to impersonate."""

    program: Path
    kubeconfig: Path
    namespace: str = ""
    as_user: str = ""

    def within(self, namespace: str) -> "Kubectl":
        """The same, bound to another namespace."""
        return replace(self, namespace=namespace)

    def impersonating(self, user: str) -> "Kubectl":
        """The same, acting as another user (``kubectl --as``)."""
        return replace(self, as_user=user)

    def command(self, *words: str) -> list[str]:
        """The whole command line."""
        line = [str(self.program), "--kubeconfig", str(self.kubeconfig)]
        if self.namespace:
            line += ["--namespace", self.namespace]
        if self.as_user:
            line += ["--as", self.as_user]
        return [*line, *words]

    def __call__(self, *words: str, stdin: str | None = None, check: bool = True) -> str:
        """Standard output of the call; with ``check=False`` a failure's stderr instead of an exception."""
        done = subprocess.run(self.command(*words), input=stdin, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            if check:
                raise KubectlError(done.stderr.strip() or f"kubectl {words[0]} exited with {done.returncode}")
            return done.stderr
        return done.stdout

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Apply objects, as ``kubectl apply -f -`` does."""
        self("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))

    def get(self, kind: str, name: str) -> RawObject | None:
        """One object, or ``None`` when there is none of that name."""
        text = self("get", kind, name, "--output=json", "--ignore-not-found")
        answer: RawObject | None = json.loads(text) if text.strip() else None
        return answer

    def list(self, kind: str, selector: str = "") -> list[RawObject]:
        """All objects of a kind that match a label selector."""
        words = ["get", kind, "--output=json"]
        if selector:
            words.append(f"--selector={selector}")
        items: list[RawObject] = json.loads(self(*words))["items"]
        return items

    def wait_for(
        self,
        kind: str,
        name: str,
        reached: Callable[[RawObject], Any],
        *,
        timeout: float = 180.0,
        seen: Callable[[RawObject], None] = lambda _: None,
    ) -> RawObject:
        """Poll one object until ``reached`` says so; ``seen`` gets each reading, for a progress display."""
        last: RawObject | None = None
        for last in self.readings(kind, name, timeout):
            if last is not None:
                seen(last)
                if reached(last):
                    return last
        status = json.dumps((last or {}).get("status", "no such object"), indent=1)
        raise NotReached(f"{kind} {self.namespace}/{name} did not get there in {timeout:.0f} s; last status: {status}")

    def readings(self, kind: str, name: str, timeout: float) -> Iterable[RawObject | None]:
        """The object about twice a second until the time is up."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            yield self.get(kind, name)
            time.sleep(0.5)


def condition(obj: Mapping[str, Any], type_: str) -> Mapping[str, Any]:
    """The condition of that type in an object's status; empty when it is not there."""
    conditions = obj.get("status", {}).get("conditions", [])
    return next((each for each in conditions if each["type"] == type_), {})


def is_true(obj: Mapping[str, Any], type_: str) -> bool:
    """Whether the condition is True at the object's present generation."""
    found = condition(obj, type_)
    return (
        found.get("status") == "True"
        and obj.get("status", {}).get("observedGeneration") == obj["metadata"]["generation"]
    )
