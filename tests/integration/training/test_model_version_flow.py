"""ModelVersions against a real Job controller: verification, and who uses a version."""

import json
import subprocess
from pathlib import Path

from e2e.cluster.commands import wait_until
from e2e.kubectl import condition, is_true
from tests.integration.training.conftest import Bench, artifact, found, model_version


def test_wrong_bytes_are_final(bench: Bench) -> None:
    bench.kubectl.apply(model_version())
    bench.finish("verify-m-1-0-0-1", found(verified=False, reason="HashMismatch", message="its sha256 is ab12"), code=1)
    observed = bench.until(
        "modelversion", "m-1-0-0", lambda version: condition(version, "Stalled").get("status") == "True"
    )
    verified = condition(observed, "Verified")
    assert (verified["status"], verified["reason"]) == ("False", "HashMismatch")
    assert "artifact fp32: its sha256 is ab12" in verified["message"]
    assert observed["status"]["artifacts"][0]["verified"] is False
    assert "HashMismatch" in bench.events("m-1-0-0")
    bench.kubectl("delete", "job", "verify-m-1-0-0-1")
    bench.kubectl("label", "modelversion", "m-1-0-0", "looked-at=again")
    bench.kubectl.apply(model_version(version="2.0.0"))
    bench.job("verify-m-2-0-0-1")
    assert bench.kubectl.list("jobs", "modelfleet.dev/model-version=m-1-0-0") == []


def test_a_store_that_was_down_is_asked_again(bench: Bench) -> None:
    bench.kubectl.apply(model_version())
    down = found(verified=False, reason="Unreachable", message="connection refused")
    bench.finish("verify-m-1-0-0-1", down, code=75)
    observed = bench.until("modelversion", "m-1-0-0", lambda each: condition(each, "Verified").get("status") == "False")
    assert condition(observed, "Verified")["reason"] == "Unreachable"
    assert condition(observed, "Reconciling")["status"] == "True"
    bench.finish("verify-m-1-0-0-2", found())
    verified = bench.until("modelversion", "m-1-0-0", lambda each: is_true(each, "Ready"))
    assert verified["status"]["verification"]["attempt"] == 2


def test_a_verifying_job_or_pod_that_is_deleted_is_made_again(bench: Bench) -> None:
    bench.kubectl.apply(model_version())
    bench.job("verify-m-1-0-0-1")
    bench.kubectl("delete", "job", "verify-m-1-0-0-1")
    bench.job("verify-m-1-0-0-2")
    (pod,) = bench.pods("verify-m-1-0-0-2")
    bench.kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false")
    bench.finish("verify-m-1-0-0-3", found())
    bench.until("modelversion", "m-1-0-0", lambda each: is_true(each, "Ready"))
    assert "ReportLost" in bench.events("m-1-0-0")


def test_a_namespace_without_quota_is_told(bench: Bench) -> None:
    bench.kubectl("create", "quota", "none", "--hard=pods=0")
    bench.kubectl.apply(model_version())
    observed = bench.until(
        "modelversion", "m-1-0-0", lambda each: condition(each, "Verified").get("reason") == "QuotaExceeded"
    )
    assert "exceeded quota: none" in condition(observed, "Ready")["message"]


def test_a_pod_that_waits_for_its_secret_or_node_says_so(bench: Bench) -> None:
    bench.kubectl.apply(model_version(artifact(credentialsSecretRef={"name": "store"})))
    observed = bench.until(
        "modelversion", "m-1-0-0", lambda each: condition(each, "Verified").get("reason") == "Unschedulable"
    )
    assert "no nodes available" in condition(observed, "Verified")["message"]


def test_bytes_that_changed_after_verification_are_found_when_asked_for(bench: Bench) -> None:
    bench.kubectl.apply(model_version())
    bench.finish("verify-m-1-0-0-1", found())
    bench.until("modelversion", "m-1-0-0", lambda each: is_true(each, "Ready"))
    bench.kubectl("annotate", "mv", "m-1-0-0", "modelfleet.dev/verify=monday")
    changed = found(verified=False, reason="HashMismatch", message="its sha256 is ab12")
    bench.job("verify-m-1-0-0-2")
    held = bench.kubectl.get("modelversion", "m-1-0-0")
    assert held is not None
    assert is_true(held, "Ready")
    bench.finish("verify-m-1-0-0-2", changed, code=1)
    observed = bench.until("modelversion", "m-1-0-0", lambda each: is_true(each, "Stalled"))
    assert condition(observed, "Verified")["reason"] == "HashMismatch"
    assert observed["status"]["lastCommand"] == "verify monday"
    assert "HashMismatch" in bench.events("m-1-0-0")
    bench.kubectl("annotate", "mv", "m-1-0-0", "modelfleet.dev/verify=tuesday", "--overwrite")
    bench.finish("verify-m-1-0-0-3", found())
    bench.until("modelversion", "m-1-0-0", lambda each: is_true(each, "Ready"))


def test_an_alias_moves_to_the_highest_version(bench: Bench) -> None:
    bench.kubectl.apply(model_version(aliases=["champion"]))
    bench.until("modelversion", "m-1-0-0", lambda each: each.get("status", {}).get("aliases") == ["champion"])
    bench.kubectl.apply(model_version(version="1.10.0", aliases=["champion"]))
    bench.until("modelversion", "m-1-10-0", lambda each: each.get("status", {}).get("aliases") == ["champion"])
    lost = bench.until("modelversion", "m-1-0-0", lambda each: not each["status"].get("aliases"))
    assert "alias champion is in effect on 1.10.0" in condition(lost, "Ready")["message"]
    bench.kubectl("delete", "modelversion", "m-1-10-0")
    bench.until("modelversion", "m-1-0-0", lambda each: each["status"].get("aliases") == ["champion"])


def test_the_stage_follows_the_deployments_that_use_it(bench: Bench) -> None:
    bench.kubectl.apply(model_version())
    bench.finish("verify-m-1-0-0-1", found())
    bench.until("modelversion", "m-1-0-0", lambda each: each.get("status", {}).get("stage") == "Verified")
    bench.kubectl.apply(
        {
            "apiVersion": "modelfleet.dev/v1alpha1",
            "kind": "EdgeDeployment",
            "metadata": {"name": "line"},
            "spec": {"modelVersion": "m-1-0-0", "pools": [{"name": "p", "nodeSelector": {"pool": "none"}}]},
        }
    )
    gray = bench.until("modelversion", "m-1-0-0", lambda each: each["status"].get("stage") == "Gray")
    assert gray["status"]["usedBy"] == [{"kind": "EdgeDeployment", "name": "line", "role": "Canary"}]
    patch = json.dumps({"status": {"stable": {"modelVersion": "m-1-0-0", "revision": "r"}}})
    bench.kubectl("patch", "edgedeployment", "line", "--subresource=status", "--type=merge", f"--patch={patch}")
    bench.until("modelversion", "m-1-0-0", lambda each: each["status"].get("stage") == "Online")
    bench.kubectl("delete", "edgedeployment", "line")
    retired = bench.until("modelversion", "m-1-0-0", lambda each: each["status"].get("stage") == "Retired")
    assert not retired["status"].get("usedBy")
    history = retired["status"]["history"]
    assert [entry["stage"] for entry in history] == ["Registered", "Verified", "Gray", "Online", "Retired"]
    assert [entry.get("usedBy") for entry in history] == [None, None, ["line"], ["line"], None]
    assert [entry["since"] for entry in history] == sorted(entry["since"] for entry in history)


def test_an_alias_that_moves_is_never_on_no_version(bench: Bench, tmp_path: Path) -> None:
    """Both ways, as whoever watches the statuses sees it: the writes in the order the API server took them."""

    def shows(name: str, *aliases: str) -> None:
        bench.until("modelversion", name, lambda each: each.get("status", {}).get("aliases", []) == list(aliases))

    bench.kubectl.apply(model_version(aliases=["champion"]))
    shows("m-1-0-0", "champion")
    columns = "custom-columns=NAME:.metadata.name,CLAIMS:.spec.aliases[*],SHOWS:.status.aliases[*]"
    seen = tmp_path / "seen"
    with seen.open("wb") as log:
        watch = subprocess.Popen(
            bench.kubectl.command("get", "mv", "--watch", "--no-headers", "-o", columns), stdout=log
        )
    try:
        wait_until(lambda: bool(seen.read_text()), "the watch to begin", 60)
        bench.kubectl.apply(model_version(version="1.10.0", aliases=["champion"]))
        shows("m-1-10-0", "champion")
        shows("m-1-0-0")
        bench.kubectl.apply(model_version(version="1.10.0", aliases=[]))
        shows("m-1-0-0", "champion")
        shows("m-1-10-0")
        bench.kubectl("label", "mv", "m-1-0-0", "the=end")
        wait_until(
            lambda: seen.read_text().splitlines()[-1].split() == ["m-1-0-0", "champion", "champion"], "the end", 60
        )
    finally:
        watch.kill()
        watch.wait()
    shown: dict[str, str] = {}
    moments = []
    for line in seen.read_text().splitlines():
        name, _, alias = line.split()
        shown[name] = alias
        moment = sorted(each for each, alias in shown.items() if alias == "champion")
        moments += [moment] if [moment] != moments[-1:] else []
    both = ["m-1-0-0", "m-1-10-0"]
    assert moments == [["m-1-0-0"], both, ["m-1-10-0"], both, ["m-1-0-0"]]
