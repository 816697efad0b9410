"""Places that do not come up in time although no pod of theirs is there for so long.

A pod's own deadline begins when it is made (``judgement.py``). A place may get none at all, as an admission policy
refuses it or the controller that would make it is away: then the deadline begins when the plan first found it so. Or
it gets one after the other that the kubelet turns away: then it begins with the first of them. An operator that was
restarted begins it anew: late, never too soon.

A quota that is used up is told of, and waited for: it frees itself, and says nothing of the version.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from modelfleet.plan.edge.member import Clock, Member
from modelfleet.plan.edge.serving_pod import Trouble
from modelfleet.plan.edge.waves import State
from modelfleet.plan.outcome import Waiting

_QUOTA: Final = "exceeded quota"
"""In the API server's words (``k8s.io/apiserver``, plugin ``resourcequota``)."""


def judge(
    members: Sequence[Member], before: Mapping[str, Waiting], refusals: Mapping[str, str], clock: Clock
) -> dict[str, Waiting]:
    """Count as failed what has waited for too long; what waits, to be handed in with the next plan.

    ``before`` is by name of the place, ``refusals`` by workload: why the API server makes no pods of it.
    """
    waiting = {}
    for member in members:
        wanted = member.wanted
        if member.state is not State.IN_FLIGHT or wanted is None or member.prepared or member.cramped or member.drains:
            continue
        why = refusals.get(wanted.hash, "") if member.podless else ""
        if _QUOTA in why:
            continue
        known = before.get(member.name)
        if known is None or known.workload != wanted.hash:
            known = Waiting(wanted.hash, clock.now, member.started or "")
        elif member.started and not known.first_pod:
            known = replace(known, since=clock.now, first_pod=member.started)
        if member.trouble is not None:
            known = replace(known, trouble=(member.trouble.reason, member.trouble.message))
        waiting[member.name] = known
        due = max(known.since, member.changed or known.since) + clock.progress_deadline
        if due <= clock.now:
            member.state, member.trouble = State.FAILED, member.trouble or _trouble(known, why, clock)
        elif member.look_again is None or due < member.look_again:
            member.look_again = due
    return waiting


def _trouble(known: Waiting, why: str, clock: Clock) -> Trouble:
    if why:
        return Trouble("PodsRefused", why)
    if known.trouble is not None:
        return Trouble(*known.trouble)
    seconds = int(clock.progress_deadline.total_seconds())
    return Trouble("NoPod", f"no pod was made for it within progressDeadlineSeconds ({seconds})")
