"""Which version of a model an alias means: of several that claim it, the highest by SemVer precedence.

Two objects cannot be written at once, so an alias that moves is handed over: the version that had it shows it in its
status until the one that has it next does. Whoever reads the statuses finds it on one version at least at any time;
on two for the moment of the hand-over, of which the higher is meant.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import semver

from modelfleet.api.model_version import ModelVersionSpec


@dataclass(frozen=True)
class Sibling:
    """Another version of the model."""

    spec: ModelVersionSpec
    shown: Collection[str] = ()
    """The aliases that its status shows."""


@dataclass(frozen=True)
class Aliases:
    """What became of the aliases that one version claims, or showed so far."""

    effective: tuple[str, ...]
    """Those to show in the status: in effect, or not yet taken over by the version that has them next."""
    lost: Mapping[str, str]
    """The aliases it claims that are in effect elsewhere, each with the version that has it."""


def settle(spec: ModelVersionSpec, siblings: Iterable[Sibling], shown: Collection[str] = ()) -> Aliases:
    """Settle the aliases of ``spec``, whose status shows ``shown``; versions of other models are passed over.

    Versions that differ in letter case alone cannot both exist, as their object's name would be the same.
    """
    rivals = [each for each in siblings if each.spec.model == spec.model and each.spec.version != spec.version]
    mine = semver.Version.parse(spec.version)
    effective, lost = [], {}
    for alias in [*spec.aliases, *sorted(set(shown) - set(spec.aliases))]:
        claims = [each for each in rivals if alias in each.spec.aliases]
        next_ = max(claims, key=lambda each: semver.Version.parse(each.spec.version), default=None)
        claimed = alias in spec.aliases
        if claimed and (next_ is None or semver.Version.parse(next_.spec.version) < mine):
            effective.append(alias)
            continue
        if claimed and next_ is not None:
            lost[alias] = next_.spec.version
        if next_ is not None and alias in shown and alias not in next_.shown:
            effective.append(alias)
    return Aliases(tuple(effective), lost)
