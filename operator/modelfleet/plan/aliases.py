"""Which version of a model an alias means: of several that claim it, the highest by SemVer precedence."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import semver

from modelfleet.api.model_version import ModelVersionSpec


@dataclass(frozen=True)
class Aliases:
    """What became of the aliases that one version claims."""

    effective: tuple[str, ...]
    lost: Mapping[str, str]
    """The aliases in effect elsewhere, each with the version that has it."""


def settle(spec: ModelVersionSpec, others: Iterable[ModelVersionSpec]) -> Aliases:
    """Settle the aliases of ``spec`` among ``others``; versions of other models are passed over.

    Versions that differ in letter case alone cannot both exist, as their object's name would be the same.
    """
    rivals = [other for other in others if other.model == spec.model and other.version != spec.version]
    mine = semver.Version.parse(spec.version)
    lost = {}
    for alias in spec.aliases:
        claims = [semver.Version.parse(other.version) for other in rivals if alias in other.aliases]
        highest = max(claims, default=None)
        if highest is not None and highest > mine:
            lost[alias] = str(highest)
    return Aliases(tuple(alias for alias in spec.aliases if alias not in lost), lost)
