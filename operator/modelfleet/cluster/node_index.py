"""Nodes by their labels, for the view: a plan is given the nodes of its pools, not the whole cluster's.

A label is indexed from when it was first asked for; those that the operator itself writes are from the start. So a
thousand deployments over a few gateways each cost a thousand look-ups, not a thousand passes over all nodes.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from modelfleet.api import names
from modelfleet.plan.outcome import RawObject

Labels = Mapping[str, str]


class NodeIndex:
    """Names of nodes by label; told of every node that comes, changes or goes."""

    def __init__(self) -> None:
        self._labels: dict[str, Labels] = {}
        self._by_value: dict[str, defaultdict[str, set[str]]] = {}
        """By label asked for, then by its value."""
        self._assigned: defaultdict[str, set[str]] = defaultdict(set)
        """By label of ours, whatever its value."""

    def put(self, node: RawObject) -> None:
        """Take in a node as it is now."""
        name, labels = node["metadata"]["name"], node["metadata"].get("labels") or {}
        before = self._labels.get(name)
        if before == labels:
            return
        if before is not None:
            self.drop(name)
        self._labels[name] = labels
        for key, by_value in self._by_value.items():
            if key in labels:
                by_value[labels[key]].add(name)
        for key in _ours(labels):
            self._assigned[key].add(name)

    def drop(self, name: str) -> None:
        """Forget a node."""
        labels = self._labels.pop(name, {})
        for key, by_value in self._by_value.items():
            if key in labels:
                _take(by_value, labels[key], name)
        for key in _ours(labels):
            _take(self._assigned, key, name)

    def find(self, selectors: Iterable[Labels], keys: Iterable[str]) -> list[str]:
        """The names, sorted, of the nodes that match any of the selectors or carry any of these labels of ours."""
        found: set[str] = set()
        for selector in selectors:
            found |= self._matching(selector)
        for key in keys:
            found |= self._assigned.get(key, set())
        return sorted(found)

    def _matching(self, selector: Labels) -> set[str]:
        if not selector:
            return set(self._labels)
        sets = [self._of_label(key).get(value, set()) for key, value in selector.items()]
        return set.intersection(*sorted(sets, key=len))

    def _of_label(self, key: str) -> Mapping[str, set[str]]:
        if key not in self._by_value:
            by_value = self._by_value[key] = defaultdict(set)
            for name, labels in self._labels.items():
                if key in labels:
                    by_value[labels[key]].add(name)
        return self._by_value[key]


def _ours(labels: Labels) -> Iterable[str]:
    return (key for key in labels if key.startswith(names.NODE_LABEL_PREFIX))


def _take(sets: dict[str, set[str]], key: str, name: str) -> None:
    sets[key].discard(name)
    if not sets[key]:
        del sets[key]
