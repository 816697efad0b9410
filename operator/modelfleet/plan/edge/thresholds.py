"""Whether a rollout fails: how many of the nodes that were tried did not come up, and whether that is enough to tell.

AWS IoT jobs and hawkBit stop by a share of failures as well; hawkBit divides by all targets, so that ten gateways that
all fail are ten per cent of a hundred. Here the denominator is the nodes whose outcome is known: those that are in
flight, offline or out of reach prove nothing yet.
"""

from enum import Enum

from modelfleet.api.edge_deployment import FailureThreshold


class Failures(Enum):
    """What the failures so far mean."""

    NONE = "nothing failed"
    UNDECIDED = "too few were tried to tell, and more can be"
    TOLERATED = "within the threshold: left out of the wave, still counted"
    EXCEEDED = "beyond the threshold: the rollout failed"


def judge(threshold: FailureThreshold, failed: int, healthy: int, size: int, *, more: bool) -> Failures:
    """Judge the outcomes that are known.

    A wave of ``size`` that has fewer nodes than ``minSamples`` is judged by as many as it has: a pilot of one node
    that fails has failed. So is one in which no ``more`` can be learned, as nothing is in flight and the failed
    nodes take up ``maxUnavailable``.
    """
    if failed == 0:
        return Failures.NONE
    known = failed + healthy
    if more and known < min(threshold.min_samples, size):
        return Failures.UNDECIDED
    return Failures.EXCEEDED if failed * 100 > threshold.percentage * known else Failures.TOLERATED
