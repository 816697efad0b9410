"""Channels: how far the code of a model has come, told from its branch or tag, and who may deploy from which.

The mapping follows the usual names of branches; an installation may state another (``Installation.channels``).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, Literal, get_args

from modelfleet.api.model_version import Channel

ORDER: Final[tuple[Channel, ...]] = get_args(Channel)
"""From the least to the most trusted."""

NEVER_DEPLOYED: Final[Channel] = "experiment"

RefKind = Literal["branch", "tag"]


@dataclass(frozen=True)
class ChannelRule:
    """The channel of the branches or tags whose name matches a pattern."""

    kind: RefKind
    pattern: str
    """As in a shell: ``*`` is any text, slashes included."""
    channel: Channel


DEFAULT_RULES: Final = (
    ChannelRule("tag", "*", "production"),
    ChannelRule("branch", "main", "production"),
    ChannelRule("branch", "master", "production"),
    ChannelRule("branch", "release/*", "preproduction"),
    ChannelRule("branch", "develop", "candidate"),
)


def of(kind: RefKind, name: str, rules: Iterable[ChannelRule] = DEFAULT_RULES) -> Channel:
    """The channel of a branch or tag: that of the first rule it matches; else experiment, as feature/* is."""
    return next(
        (rule.channel for rule in rules if rule.kind == kind and fnmatchcase(name, rule.pattern)), NEVER_DEPLOYED
    )


def refusal(channel: Channel | None, least: Channel | None) -> str:
    """Why a model of this channel may not be deployed where ``least`` is asked for; empty: it may.

    An unknown channel is taken where none is asked for: a version that another pipeline registered need not have one.
    """
    if channel == NEVER_DEPLOYED:
        return "is of channel experiment, which is never rolled out: train it from develop, release/* or main"
    if least is None or (channel is not None and ORDER.index(channel) >= ORDER.index(least)):
        return ""
    has = f"is of channel {channel}" if channel is not None else "has no channel"
    return f"{has}, and minimumChannel asks for {least}: name a version of that channel, or lower minimumChannel"
