"""What became of a place, by its pods, its node and the clock; and whether an update is to blame for who went away.

Every function fills in one member, or weighs members against each other. Who they are is ``fleet.py``'s.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from modelfleet.plan import conditions
from modelfleet.plan.edge.member import Clock, Member
from modelfleet.plan.edge.serving_pod import STEADY, ServingPod, Trouble
from modelfleet.plan.edge.waves import TRIED, State
from modelfleet.plan.edge.workload import Workload

ONE_CUT: Final = timedelta(minutes=2)
"""Nodes that go out of reach within this time of each other may have done so for one reason."""
CUT_SHARE: Final = 10
"""One of so many nodes that were not moved must have gone with those that were for that to be likely."""


def judge_moved(
    member: Member,
    wanted: Workload,
    pods: Sequence[ServingPod],
    reachable: bool,
    node_since: datetime | None,
    clock: Clock,
) -> None:
    """Judge a node whose labels name the wanted workload by its pods: the wanted one must be up, the old one gone."""
    candidates = [pod for pod in pods if pod.workload == wanted.hash and not pod.terminating]
    pod = max(candidates, key=lambda each: each.created, default=None)
    if reachable:
        judge_pod(member, pod, node_since, clock)
        if member.carried != wanted.hash:
            _judge_beside(member, pod, pods)
        elif member.state is State.HEALTHY and len(pods) > 1:
            _judge_draining(member, pods, clock)
        late = _moment(pod.created if pod else "", clock) + clock.progress_deadline
        if member.state is State.IN_FLIGHT and node_since is not None and node_since >= late:
            # Back after its time was up, or flapping: it is given time again, but nobody waits for it.
            member.state = State.LOST
        return
    member.state = State.LOST
    member.updated = pod is not None and pod.running
    if pod is None:
        return
    if pod.trouble and pod.trouble.permanent:
        member.state, member.trouble = State.FAILED, pod.trouble
        return
    if struck(pod, node_since, clock) and node_since is not None:
        member.state = State.SUSPECT
        member.trouble = Trouble("NodeNotReady", "the node went out of reach soon after its update")
        member.look_again = node_since + clock.progress_deadline


def _judge_draining(member: Member, pods: Sequence[ServingPod], clock: Clock) -> None:
    """A gateway whose previous pod does not end holds the rollout up for a while, not for ever."""
    member.state, member.drains = State.IN_FLIGHT, True
    member.trouble = Trouble("Draining", "the previous pod is still terminating")
    late = max((each.gone_by for each in pods), default="")
    if late:
        due = conditions.parse_timestamp(late) + clock.progress_deadline
        member.look_again = due
        if due <= clock.now:
            member.state, member.stuck = State.FAILED, True


def struck(pod: ServingPod, node_since: datetime | None, clock: Clock) -> bool:
    """Whether a node that is out of reach since then went so soon after it got this pod."""
    created = _moment(pod.created, clock)
    return node_since is not None and created <= node_since < created + clock.progress_deadline


def _moment(text: str, clock: Clock) -> datetime:
    return conditions.parse_timestamp(text) if text else clock.now


def _judge_beside(member: Member, pod: ServingPod | None, pods: Sequence[ServingPod]) -> None:
    """Whether the pod that is made ready beside the one that serves can take over."""
    if member.state is State.HEALTHY:
        member.state, member.prepared = State.IN_FLIGHT, True
    elif member.state is State.IN_FLIGHT and pod is not None and pod.no_room:
        # What is on its way out makes room by itself.
        member.cramped = not any(each.terminating for each in pods)


def judge_pod(member: Member, pod: ServingPod | None, node_since: datetime | None, clock: Clock) -> None:
    """Judge a place by its pod. A node that was away (back since ``node_since``) has the whole deadline again."""
    if pod is None:
        member.state, member.podless, member.started = State.IN_FLIGHT, True, ""
        return
    member.started = pod.created
    member.updated = pod.running
    member.trouble = pod.trouble
    steady = _steady_from(pod)
    if pod.ready and (steady is None or steady <= clock.now):
        member.state, member.trouble = State.HEALTHY, None
        return
    # Coming up in between gives one that dies again and again no more time.
    counted = pod.created if pod.deaths else pod.unready_since
    since = conditions.parse_timestamp(counted) if counted else clock.now
    due = max(since, node_since or since) + clock.progress_deadline
    if pod.trouble and pod.trouble.permanent:
        member.state = State.FAILED
    elif due <= clock.now:
        member.state = State.FAILED
        seconds = int(clock.progress_deadline.total_seconds())
        member.trouble = pod.trouble or Trouble("NotReady", f"not ready within progressDeadlineSeconds ({seconds})")
        member.look_again = steady if pod.ready else None
    else:
        member.state, member.look_again = State.IN_FLIGHT, min(due, steady or due) if pod.ready else due


def _steady_from(pod: ServingPod) -> datetime | None:
    """From when a pod that died again and again is taken for one that does not any more; ``None``: it is none such."""
    if not pod.deaths or not pod.running_since:
        return None
    return conditions.parse_timestamp(pod.running_since) + STEADY


def weigh_suspects(members: Sequence[Member], clock: Clock, settled: bool) -> None:
    """Blame the update for nodes that went out of reach only where more of the updated did so than of the others.

    Once the release is stable (``settled``) there is no update to blame. A power cut of a plant takes both alike, and
    is not the model's fault; nor is one that takes a pilot and, at the same moment, a good part of those that were not
    moved. What stays suspect fails in the end.
    """
    suspects = [member for member in members if member.state is State.SUSPECT]
    if not suspects:
        return
    tried = sum(member.state in TRIED for member in members)
    gone = sum(member.state in (State.SUSPECT, State.LOST) for member in members)
    waiting = sum(member.state is State.WAITING for member in members)
    away = sum(member.state is State.UNREACHABLE for member in members)
    shared_fate = away > 0 and away * tried >= gone * (waiting + away)
    cuts = [member.changed for member in members if member.state is State.UNREACHABLE and member.changed]
    for member in suspects:
        together = [each for each in cuts if member.changed and abs(each - member.changed) <= ONE_CUT]
        cut_off = len(together) >= len(suspects) and len(together) * CUT_SHARE >= waiting + away
        if settled or shared_fate or cut_off:
            member.state, member.trouble = State.LOST, None
        elif member.look_again is not None and member.look_again <= clock.now:
            member.state = State.FAILED
            member.trouble = Trouble("NodeLost", "the node went out of reach soon after its update and did not return")
