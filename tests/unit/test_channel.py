"""Channels: from branches and tags, and who may be deployed where."""

import pytest

from modelfleet.api.model_version import Channel
from modelfleet.plan import channel
from modelfleet.plan.channel import ChannelRule, RefKind


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [
        ("branch", "feature/better-loss", "experiment"),
        ("branch", "feature/a/b", "experiment"),
        ("branch", "try-this", "experiment"),
        ("branch", "mainline", "experiment"),
        ("branch", "develop", "candidate"),
        ("branch", "release/1.4", "preproduction"),
        ("branch", "release/1.4/fixes", "preproduction"),
        ("branch", "releases", "experiment"),
        ("branch", "main", "production"),
        ("branch", "master", "production"),
        ("tag", "v1.4.0", "production"),
        ("tag", "feature/x", "production"),
    ],
)
def test_a_branch_or_tag_has_a_channel(kind: RefKind, name: str, expected: Channel) -> None:
    assert channel.of(kind, name) == expected


def test_an_installation_may_map_otherwise() -> None:
    rules = [ChannelRule("branch", "trunk", "production"), ChannelRule("branch", "*", "candidate")]
    assert channel.of("branch", "trunk", rules) == "production"
    assert channel.of("branch", "main", rules) == "candidate"
    assert channel.of("tag", "v1", rules) == "experiment"


@pytest.mark.parametrize(
    ("has", "least", "word"),
    [
        (None, None, ""),
        ("candidate", None, ""),
        ("experiment", None, "never rolled out"),
        ("experiment", "candidate", "never rolled out"),
        ("candidate", "candidate", ""),
        ("candidate", "preproduction", "is of channel candidate, and minimumChannel asks for preproduction"),
        ("production", "preproduction", ""),
        (None, "candidate", "has no channel, and minimumChannel asks for candidate"),
    ],
)
def test_who_may_be_deployed(has: Channel | None, least: Channel | None, word: str) -> None:
    why = channel.refusal(has, least)
    assert word in why
    assert bool(why) is bool(word)
