"""Which build of a model fits a node, and which of those that fit is chosen."""

from collections.abc import Collection
from typing import Any

import pytest

from modelfleet.plan import node_class
from modelfleet.plan.edge import precision
from modelfleet.plan.edge.revision import ReleaseArtifact
from modelfleet.plan.node_class import NodeClass
from tests.unit.edge_world import GPU, node

GIB = 1 << 30


def build(name: str, **fields: Any) -> ReleaseArtifact:
    kind = name.removeprefix("gpu-")
    fields.setdefault("precision", kind if kind in precision.PRECISIONS else "fp32")
    fields.setdefault("accelerators", (GPU,) if name.startswith("gpu-") else ())
    return ReleaseArtifact(name=name, uri="https://m/x", sha256="0" * 64, **{"format": "onnx", **fields})


def device(memory: float = 8, gpu: float | None = None, platform: str = "linux/arm64", *features: str) -> NodeClass:
    return NodeClass(
        platform=platform,
        accelerators=frozenset({GPU}) if gpu is not None else frozenset(),
        cpu_features=frozenset(features),
        memory=int(memory * GIB),
        accelerator_memory=int(gpu * GIB) if gpu else None,
    )


ALL = [build(name) for name in precision.PRECISIONS]


@pytest.mark.parametrize(
    ("memory", "expected"),
    [(64, "fp32"), (32, "fp32"), (28.2, "fp32"), (24, "fp16"), (16, "fp16"), (15, "fp16"), (12, "int8"), (2, "int8")],
)
def test_memory_decides_among_builds_that_all_fit(memory: float, expected: str) -> None:
    chosen = precision.choose(ALL, [device(memory)]).artifact
    assert chosen is not None
    assert chosen.name == expected


@pytest.mark.parametrize(
    ("artifacts", "on", "expected"),
    [
        # No build is meant for so small a device: the least demanding one that fits.
        (["fp32", "fp16"], device(8), "fp16"),
        (["fp32"], device(8), "fp32"),
        # fp32 is for 32 GiB and more; int8 is for all.
        (["fp32", "int8"], device(16), "int8"),
        (["bf16", "fp16"], device(40), "bf16"),
        # Where there is an accelerator, a build for it; its memory counts, not the node's.
        (["fp32", "gpu-fp16", "gpu-int8"], device(64, gpu=16), "gpu-fp16"),
        (["fp32", "gpu-fp16", "gpu-int8"], device(64, gpu=8), "gpu-int8"),
        (["fp32", "gpu-fp16"], device(64), "fp32"),
        # A card that shares the node's memory tells of none of its own.
        (["gpu-fp16", "gpu-int8"], device(32, gpu=0), "gpu-fp16"),
    ],
)
def test_choice(artifacts: list[str], on: NodeClass, expected: str) -> None:
    chosen = precision.choose([build(name) for name in artifacts], [on]).artifact
    assert chosen is not None
    assert chosen.name == expected


@pytest.mark.parametrize(
    ("artifact", "on", "why"),
    [
        (build("int8", platforms=("linux/amd64",)), device(), "is for linux/amd64 and the node is linux/arm64"),
        (build("int8", platforms=("linux/arm64/v8",)), device(), ""),
        (build("gpu-int8"), device(), "needs nvidia.com/gpu, which the node does not offer"),
        (build("int8", cpu_features=("avx512f",)), device(), "needs CPU feature avx512f"),
        (build("int8", cpu_features=("avx512_vnni",)), device(8, None, "linux/amd64", "AVX512VNNI"), ""),
        (build("int8", min_memory="8Gi"), device(8), ""),
        (build("int8", min_memory="8Gi"), device(7.9), "needs 8Gi of device memory and the node has 8089Mi"),
        (build("gpu-int8", min_memory="16Gi"), device(64, gpu=15), ""),
        (build("gpu-int8", min_memory="16Gi"), device(64, gpu=12), "needs 16Gi of device memory"),
    ],
)
def test_what_keeps_a_build_off_a_node(artifact: ReleaseArtifact, on: NodeClass, why: str) -> None:
    found = precision.problem(artifact, on)
    assert found.startswith(why)
    assert bool(found) == bool(why)


def test_an_artifact_that_the_pool_names_is_taken_or_none_is() -> None:
    assert precision.choose(ALL, [device(64)], named="int8").artifact == build("int8")
    unfit = [*ALL, build("gpu-int8")]
    assert precision.choose(unfit, [device(64)], named="gpu-int8").artifact is None
    unknown = precision.choose(ALL, [device(64)], named="int4")
    assert unknown.why_not == "the version has no artifact int4 (it has int8, fp16, bf16, fp32)"


def test_one_artifact_for_all_nodes_is_one_that_the_weakest_can_hold() -> None:
    builds = [build("fp32", min_memory="30Gi"), build("int8")]
    chosen = precision.choose(builds, [device(64), device(8)]).artifact
    assert chosen == build("int8")


def test_the_default_image_is_given_what_it_can_load() -> None:
    builds = [build("fp32", format="tflite"), build("int8")]
    formats = precision.DEFAULT_IMAGE_FORMATS
    assert precision.choose(builds, [device(64)], formats=formats).artifact == build("int8")
    assert "set spec.serving.image" in precision.choose(builds[:1], [device(64)], formats=formats).why_not


@pytest.mark.parametrize("order", [ALL, ALL[::-1], ALL[2:] + ALL[:2]])
def test_the_order_in_which_builds_are_listed_does_not_matter(order: Collection[ReleaseArtifact]) -> None:
    assert precision.choose(list(order), [device(20)]).artifact == build("fp16")


def test_a_node_tells_its_class_by_labels_and_allocatable_resources() -> None:
    labels = {
        "nvidia.com/gpu.memory": "15360",
        "feature.node.kubernetes.io/cpu-cpuid.AVX512VNNI": "true",
    }
    raw = node("n", arch="amd64", memory="64Gi", **labels)
    raw["status"]["allocatable"] |= {GPU: "1", "amd.com/gpu": "0", "hugepages-2Mi": "0"}
    assert node_class.classify(raw) == NodeClass(
        platform="linux/amd64",
        accelerators=frozenset({GPU}),
        cpu_features=frozenset({"SSE", "SSE2", "AVX512VNNI"}),
        memory=64 * GIB,
        accelerator_memory=15 * GIB,
    )


def test_every_arm64_cpu_has_neon_whoever_says_so() -> None:
    assert precision.problem(build("int8", cpu_features=("neon",)), node_class.classify(node("n"))) == ""
    assert node_class.feature("asimd") == node_class.feature("NEON")


@pytest.mark.parametrize(
    ("toleration", "taint", "expected"),
    [
        ({"operator": "Exists"}, {"key": "a", "value": "b", "effect": "NoSchedule"}, True),
        ({"key": "a", "operator": "Exists"}, {"key": "a", "effect": "NoExecute"}, True),
        ({"key": "a", "operator": "Exists", "effect": "NoSchedule"}, {"key": "a", "effect": "NoExecute"}, False),
        ({"key": "a", "value": "b"}, {"key": "a", "value": "b", "effect": "NoSchedule"}, True),
        ({"key": "a", "value": "c"}, {"key": "a", "value": "b", "effect": "NoSchedule"}, False),
        ({"key": "a"}, {"key": "a", "effect": "NoSchedule"}, True),
    ],
)
def test_tolerations_match_taints_as_kubernetes_has_it(
    toleration: dict[str, str], taint: dict[str, str], expected: bool
) -> None:
    assert node_class.tolerates(toleration, taint) is expected


def test_taints_that_daemon_pods_tolerate_anyway_keep_nothing_off() -> None:
    raw = node("n")
    raw["spec"]["taints"] = [
        {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"},
        {"key": "soft", "effect": "PreferNoSchedule"},
    ]
    assert node_class.untolerated_taint(raw, []) is None
