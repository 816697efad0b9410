"""What happens to fleets: gateways that vanish, flap, join, leave and come back, on a real API server.

The oracle is the fault-free end state: every gateway of the pool on the wanted version, one DaemonSet, nothing left on
its labels, and no more than two writes for each that was there all the time.
"""

from collections import Counter
from collections.abc import Iterator

import pytest

from e2e.cluster import gateways
from modelfleet.plan import naming
from modelfleet.plan.edge import assignment
from modelfleet.plan.edge.assignment import Assignment
from tests.integration.edge.conftest import Line
from tests.objects import RawObject

SITE = "plant-d"
POOL = {"name": "x86", "nodeSelector": {"pool": "x86", "site": SITE}}
NAMES = [f"gw-x86-{number:04}" for number in range(3, 80, 4)]
"""The 20 gateways of the pool."""
WAVES = [{"name": "pilot", "nodes": 1}, {"name": "half", "nodes": "50%"}, {"name": "all"}]


@pytest.fixture
def line_at_one(line: Line) -> Iterator[Line]:
    """A line with the first version on 20 gateways, and two more versions registered; all are back after the test."""
    for version in ("1.0.0", "2.0.0", "3.0.0"):
        line.register(version)
    line.deploy([POOL], strategy={"waves": WAVES, "maxUnavailable": "25%", "offlineAfterSeconds": 1})
    line.until_healthy("1.0.0")
    yield line
    away = [name for name in NAMES if not is_ready(line, name)]
    line.cluster.gateways.bring_back(*away)


def is_ready(line: Line, name: str) -> bool:
    node = line.kubectl.get("node", name)
    assert node is not None
    return any(each["type"] == "Ready" and each["status"] == "True" for each in node["status"]["conditions"])


def nodes(line: Line) -> dict[str, RawObject]:
    found = line.kubectl.list("nodes", f"pool=x86,site={SITE}")
    return {each["metadata"]["name"]: each for each in found}


def keys_of(line: Line) -> set[str]:
    """The keys of the labels that this line writes on nodes."""
    deployment = line.kubectl.get("edgedeployment", "line")
    assert deployment is not None
    return set(naming.node_label_keys(deployment["metadata"]["uid"]))


def assignments(line: Line) -> dict[str, Assignment]:
    keys = assignment.Keys(*sorted(keys_of(line), key=lambda key: (key.endswith("-failed"), key.endswith("-next"))))
    mark = naming.install_mark(line.operator.settings.installation_name) + "-"
    return {name: assignment.read(each["metadata"]["labels"], keys, mark) for name, each in nodes(line).items()}


def writes(line: Line, since: int) -> Counter[str]:
    """Label writes by gateway, since so many writes."""
    refs = [each["objectRef"] for each in line.operator.writes()[since:]]
    return Counter(each["name"] for each in refs if each["resource"] == "nodes")


def most_under_way(line: Line, since: int) -> int:
    """The most gateways that were between their first write and their second at once."""
    begun: set[str] = set()
    most = 0
    for each in line.operator.writes()[since:]:
        if each["objectRef"]["resource"] == "nodes":
            begun ^= {each["objectRef"]["name"]}
            most = max(most, len(begun))
    return most


def settle(line: Line, version: str, there: set[str]) -> None:
    """Wait for the fault-free end state."""
    line.until(lambda at: at["counts"]["healthy"] == len(there) and at["phase"] == "Healthy")
    line.eventually(lambda: line.serving(version) == there)
    line.eventually(lambda: len(line.kubectl.list("daemonsets")) == 1)
    line.eventually(lambda: len(line.kubectl.list("pods")) == len(there))
    assert {each.next for each in assignments(line).values()} == {""}
    assert len({each.serves for each in assignments(line).values()}) == 1


def test_half_the_fleet_is_offline_and_comes_back_at_once(line_at_one: Line) -> None:
    line = line_at_one
    away = NAMES[:10]
    before = len(line.operator.writes())
    line.cluster.gateways.take_offline(*away)
    line.edit(modelVersion="m-2-0-0")
    line.until_healthy("2.0.0")
    assert line.serving("2.0.0") >= set(NAMES[10:])
    assert not writes(line, before).keys() & set(away), "nothing is written for who is not there"
    line.edit(modelVersion="m-3-0-0")
    line.until_healthy("3.0.0")
    returned = len(line.operator.writes())
    line.cluster.gateways.bring_back(*away)
    settle(line, "3.0.0", set(NAMES))
    assert 0 < most_under_way(line, returned) <= 5, "maxUnavailable, 25 % of 20"
    assert set(writes(line, returned).values()) == {2}, "the current version, not the history"
    assert set(writes(line, returned)) == set(away)


def test_gateways_flap_join_leave_and_are_registered_again_in_mid_wave(line_at_one: Line) -> None:
    line = line_at_one
    flapping, leaving, renewed = NAMES[0:2], NAMES[2], NAMES[3]
    joiners = [gateways.node(gateways.POOLS[2], 7000 + index, {"site": SITE}) for index in range(3)]
    before = len(line.operator.writes())
    line.edit(modelVersion="m-2-0-0")
    line.cluster.gateways.take_offline(*flapping)
    line.cluster.gateways.add(joiners)
    try:
        line.kubectl("label", "node", leaving, "--overwrite", "site=elsewhere")
        line.cluster.gateways.bring_back(*flapping)
        number = NAMES.index(renewed) * 4 + 3
        line.cluster.gateways.remove([renewed])
        line.cluster.gateways.take_offline(*flapping)
        line.cluster.gateways.add([gateways.node(gateways.POOLS[2], number)])
        line.cluster.gateways.bring_back(*flapping)
        there = (set(NAMES) - {leaving}) | {each["metadata"]["name"] for each in joiners}
        settle(line, "2.0.0", there)
        line.eventually(lambda: not keys_of(line) & labels_of(line, leaving).keys())
        constant = set(NAMES) - {leaving, renewed}
        assert {writes(line, before)[name] for name in constant} == {2}
        assert all(writes(line, before)[each["metadata"]["name"]] <= 4 for each in joiners), (
            "given stable, then handed over, each in two writes at most"
        )
    finally:
        line.kubectl("label", "node", leaving, "--overwrite", f"site={SITE}")
        line.cluster.gateways.remove(each["metadata"]["name"] for each in joiners)


def labels_of(line: Line, name: str) -> dict[str, str]:
    node = line.kubectl.get("node", name)
    assert node is not None
    return dict(node["metadata"]["labels"])


def test_an_offline_pilot_is_made_up_for_by_another(line_at_one: Line) -> None:
    line = line_at_one
    away = sorted(NAMES, key=lambda name: naming.text_hash(name, 16))[:3]
    line.cluster.gateways.take_offline(*away)
    line.edit(modelVersion="m-2-0-0")
    line.until_healthy("2.0.0")
    line.until(lambda at: at["counts"]["pendingOffline"] == 3)
    line.cluster.gateways.bring_back(*away)
    settle(line, "2.0.0", set(NAMES))


def test_a_gateway_that_goes_with_its_update_fails_the_rollout_and_is_rescued(line_at_one: Line) -> None:
    line = line_at_one
    soaking = [{"name": "pilot", "nodes": 1, "soak": "1h"}, {"name": "all"}]
    line.edit(modelVersion="m-2-0-0", strategy={"waves": soaking, "progressDeadlineSeconds": 15})
    pilot = first_moved(line)
    line.cluster.gateways.take_offline(pilot)
    line.until(lambda at: at["counts"]["suspect"] == 1)
    status = line.until(lambda at: at["phase"] == "RolledBack")
    assert status["abortedRevision"]
    assert len({each.serves for each in assignments(line).values()}) == 1, "the pilot is called back without an answer"
    line.cluster.gateways.bring_back(pilot)
    line.eventually(lambda: line.serving("1.0.0") == set(NAMES))
    line.eventually(lambda: len(line.kubectl.list("pods")) == len(NAMES))


def test_a_power_cut_that_takes_the_pilot_too_is_not_the_models_fault(line_at_one: Line) -> None:
    line = line_at_one
    soaking = [{"name": "pilot", "nodes": 1, "soak": "1h"}, {"name": "all"}]
    line.edit(modelVersion="m-2-0-0", strategy={"waves": soaking, "progressDeadlineSeconds": 5})
    pilot = first_moved(line)
    others = [name for name in NAMES if name != pilot][:9]
    line.cluster.gateways.take_offline(*others, pilot)
    status = line.until(lambda at: at["counts"]["pendingOffline"] == 9)
    # Another gateway stands in for the pilot, and the rollout goes on when that one has soaked.
    line.edit(strategy={"waves": WAVES})
    status = line.until_healthy("2.0.0")
    assert status["counts"]["failed"] == 0
    line.cluster.gateways.bring_back(*others, pilot)
    settle(line, "2.0.0", set(NAMES))


def first_moved(line: Line) -> str:
    """Wait until the pilot serves the new version, and nothing else."""
    found: list[str] = []

    def there() -> bool:
        found[:] = line.serving("2.0.0") - line.serving("1.0.0")
        return bool(found)

    line.eventually(there)
    return found[0]
