"""The operator's replicas as pods, to be killed as a machine that loses its power would."""

import random
import time
from dataclasses import dataclass

from e2e.cluster.cluster import RealNode
from e2e.cluster.commands import ClusterError
from e2e.kubectl import Kubectl
from tests import volume
from tests.objects import RawObject


@dataclass(frozen=True)
class OperatorPods:
    """The operator's replicas."""

    kubectl: Kubectl
    """In their namespace."""
    node: RealNode
    moments: random.Random

    def kill(self, after: tuple[float, float] = (0.0, 2.0)) -> int:
        """SIGKILL to all replicas a random moment from now: no goodbye, the Lease is left to expire.

        Returns how many were running: a replica that is starting up is only replaced.
        """
        time.sleep(self.moments.uniform(*after))
        pods = self.kubectl.list("pods", "app.kubernetes.io/name=modelfleet")
        victims = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
        killed = sum(self._kill(pod) for pod in victims)
        # New pods begin at once, where a container would wait longer after each restart.
        gone = [pod["metadata"]["name"] for pod in victims]
        self.kubectl("delete", "pod", *gone, "--ignore-not-found", "--force", "--grace-period=0", "--wait=false")
        return killed

    def _kill(self, pod: RawObject) -> bool:
        statuses = pod["status"].get("containerStatuses") or ()
        if not all("running" in each["state"] for each in statuses) or not statuses:
            return False
        try:
            volume.kill_container(self.node, pod)
        except ClusterError as error:
            if "not found" not in str(error):
                raise
            return False
        return True
