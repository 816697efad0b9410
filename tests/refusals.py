"""What the contract refuses at admission: one edit each, with the field it names and, for a rule, its message."""

from tests.contract import DIGEST, REMOVED, Refusal

_NAME = "metadata.name must be spec.model, a dash, and spec.version in lower case with dashes for dots"
_LONG = {"spec.model": "m" * 40, "spec.version": "1.0.0-" + "a" * 26, "metadata.name": "m" * 40 + "-1-0-0-" + "a" * 26}
_KEYS = "every key must be cpu, memory, ephemeral-storage, hugepages-<size> or an extended resource with its domain"
_LABEL_KEY = "every key must be a label key"
_PASSWORD = "must not carry a password: put credentials into a Secret"  # noqa: S105 (a message)
_GPU = "requests of an extended resource, such as nvidia.com/gpu, must equal its limits"
_DIGEST = "must be a SHA-256: 64 lower-case hexadecimal digits"
_PREFIXED = "must be sha256: and a SHA-256 of 64 lower-case hexadecimal digits"
_COMMIT = "must be a full commit hash"
_URI = "must be an http, https, s3, gs, abfs, hf or file URL"
_REPOSITORY = "must name a repository of the Hub by its owner and name"
_WRITABLE = "must be a folder that can be written"
_VERSION = "must be a SemVer 2 version"
_DECIMAL = "must be a decimal number as text"
_HOURS = "must be a number of whole hours, such as 24h"
_TOLERANCE = "must be a decimal number from 0.0 to 1 as text"
_QUANTITY = "must be a quantity that is not negative"
_GATE = "a rule of the gate needs either comparison and value (a threshold), or baseline and direction"
_BASELINE = "direction, maxRegression and whenNoBaseline belong to baseline, which needs direction"
_GIT = "must be an https, http or ssh URL"
_REVISION = "must be a branch, a tag or a full commit hash"
_SHARE = "must be a number from 1 to 100000, or a percentage from 1% to 100% as text"
_PAUSE = "must be Manual, or a duration such as 90s, 10m or 1h30m"
_PROMETHEUS = "must be an http or https URL of a Prometheus server without credentials or query"
_PLACEHOLDERS = "may have the placeholders {{revision}}, {{namespace}} and {{name}}, and no others"
_DNS = "must have at most 40 lower-case letters, digits and dashes"

SCHEMA = (
    Refusal("ModelVersion", {"spec.artifacts.0.sha256": REMOVED}, "spec.artifacts[0].sha256"),
    Refusal("ModelVersion", {"spec.artifacts.0.sizeBytes": 0}, "spec.artifacts[0].sizeBytes"),
    Refusal("ModelVersion", {"spec.artifacts.0.sizeBytes": "12"}, "spec.artifacts[0].sizeBytes"),
    Refusal("ModelVersion", {"spec.artifacts.0.format": "pickle"}, "spec.artifacts[0].format"),
    Refusal("ModelVersion", {"spec.artifacts.0.precision": "int4"}, "spec.artifacts[0].precision"),
    Refusal("ModelVersion", {"spec.artifacts.0.platforms": ["arm64"]}, "spec.artifacts[0].platforms[0]"),
    Refusal("ModelVersion", {"spec.artifacts.0.platforms": ["linux/a", "linux/a"]}, "spec.artifacts[0].platforms[1]"),
    Refusal("ModelVersion", {"spec.artifacts.1.name": "int8"}, "spec.artifacts[1]"),
    Refusal("ModelVersion", {"spec.artifacts": []}, "spec.artifacts"),
    Refusal("ModelVersion", {"spec.model": "Defect_Detector"}, "spec.model"),
    Refusal("ModelVersion", {"spec.metrics": {"accuracy": 0.9}}, "spec.metrics.accuracy"),
    Refusal("ModelVersion", {"spec.verification.inference": "Torch"}, "spec.verification.inference"),
    Refusal("ModelVersion", {"spec.verification.samples.sizeBytes": 1 << 27}, "spec.verification.samples.sizeBytes"),
    Refusal("TrainingJob", {"spec.steps": []}, "spec.steps"),
    Refusal("TrainingJob", {"spec.steps.2.name": "train"}, "spec.steps[2]"),
    Refusal("TrainingJob", {"spec.steps.0.name": "a-name-too-long-x"}, "spec.steps[0].name"),
    Refusal("TrainingJob", {"spec.steps.1.dependsOn.0.status": "Running"}, "spec.steps[1].dependsOn[0].status"),
    Refusal(
        "TrainingJob",
        {"spec.steps.1.dependsOn": [{"name": "preprocess"}, {"name": "preprocess", "status": "Ready"}]},
        "spec.steps[1].dependsOn[1]",
    ),
    Refusal("TrainingJob", {"spec.steps.1.trainer.numNodes": 65}, "spec.steps[1].trainer.numNodes"),
    Refusal("TrainingJob", {"spec.steps.1.trainer.framework": "horovod"}, "spec.steps[1].trainer.framework"),
    Refusal("TrainingJob", {"spec.gate.0.comparison": "=>"}, "spec.gate[0].comparison"),
    Refusal("TrainingJob", {"spec.gate.1.direction": "Up"}, "spec.gate[1].direction"),
    Refusal("TrainingJob", {"spec.gate.1.baseline": "Offline"}, "spec.gate[1].baseline"),
    Refusal("TrainingJob", {"spec.backoffLimit": 21}, "spec.backoffLimit"),
    Refusal("ModelVersion", {"spec.channel": "staging"}, "spec.channel"),
    Refusal("EdgeDeployment", {"spec.minimumChannel": "experiment"}, "spec.minimumChannel"),
    Refusal("TrainingJob", {"spec.output": REMOVED}, "spec.output"),
    Refusal("TrainingJob", {"spec.checkpoint.volumeClaimName": REMOVED}, "spec.checkpoint.volumeClaimName"),
    Refusal("TrainingJob", {"spec.ttlSecondsAfterFinished": -1}, "spec.ttlSecondsAfterFinished"),
    Refusal("TrainingJob", {"spec.managedBy": "somebody"}, "spec.managedBy"),
    Refusal("TrainingJob", {"spec.checkpoint.keep": 0}, "spec.checkpoint.keep"),
    Refusal("TrainingJob", {"spec.termination.direction": "Down"}, "spec.termination.direction"),
    Refusal("TrainingJob", {"spec.termination.patience": 0}, "spec.termination.patience"),
    Refusal("TrainingJob", {"spec.termination.maxStallSeconds": 0}, "spec.termination.maxStallSeconds"),
    Refusal(
        "TrainingJob",
        {"spec.termination.resourcePressure.action": "Evict"},
        "spec.termination.resourcePressure.action",
    ),
    Refusal("TrainingJob", {"spec.checkpoint.path": "checkpoints"}, "spec.checkpoint.path"),
    Refusal("TrainingJob", {"spec.failurePolicy.rules": []}, "spec.failurePolicy.rules"),
    Refusal(
        "TrainingJob", {"spec.failurePolicy.rules.0.onExitCodes": [0]}, "spec.failurePolicy.rules[0].onExitCodes[0]"
    ),
    Refusal("TrainingJob", {"spec.failurePolicy.rules.0.action": "Restart"}, "spec.failurePolicy.rules[0].action"),
    Refusal("TrainingJob", {"spec.failurePolicy.rules.1.name": "oom"}, "spec.failurePolicy.rules[1]"),
    Refusal("TrainingJob", {"spec.steps.0.retry.limit": 21}, "spec.steps[0].retry.limit"),
    Refusal("TrainingJob", {"spec.steps.0.retry.backoffSeconds": 0}, "spec.steps[0].retry.backoffSeconds"),
    Refusal("EdgeDeployment", {"spec.pools": []}, "spec.pools"),
    Refusal("EdgeDeployment", {"spec.pools.1.name": "gateways-arm"}, "spec.pools[1]"),
    Refusal("EdgeDeployment", {"spec.pools.0.placement": "Everywhere"}, "spec.pools[0].placement"),
    Refusal("EdgeDeployment", {"spec.pools.0.nodeSelector": REMOVED}, "spec.pools[0].nodeSelector"),
    Refusal("EdgeDeployment", {"spec.pools.1.replicas": -1}, "spec.pools[1].replicas"),
    Refusal("EdgeDeployment", {"spec.strategy.waves.1.name": "pilot"}, "spec.strategy.waves[1]"),
    Refusal("EdgeDeployment", {"spec.strategy.waves.0.pools": []}, "spec.strategy.waves[0].pools"),
    Refusal("EdgeDeployment", {"spec.strategy.update": "HotSwap"}, "spec.strategy.update"),
    Refusal("EdgeDeployment", {"spec.serving.modelMountPath": "models"}, "spec.serving.modelMountPath"),
    Refusal("EdgeDeployment", {"spec.serving.modelMountPath": "/"}, "spec.serving.modelMountPath"),
    Refusal("EdgeDeployment", {"spec.serving.ports.http": 65536}, "spec.serving.ports.http"),
    Refusal("EdgeDeployment", {"spec.serving.env.0.name": "1ST"}, "spec.serving.env[0].name"),
    Refusal(
        "EdgeDeployment", {"spec.serving.env": [{"name": "A", "value": "1"}, {"name": "A"}]}, "spec.serving.env[1]"
    ),
    Refusal("EdgeDeployment", {"spec.traffic.probe.url": REMOVED}, "spec.traffic.probe.url"),
    Refusal("EdgeDeployment", {"spec.traffic.probe.host": "*.example"}, "spec.traffic.probe.host"),
    Refusal("EdgeDeployment", {"spec.canary.steps": []}, "spec.canary.steps"),
    Refusal("EdgeDeployment", {"spec.canary.steps.0.weight": 101}, "spec.canary.steps[0].weight"),
    Refusal("EdgeDeployment", {"spec.canary.mirror.percentage": -1}, "spec.canary.mirror.percentage"),
    Refusal("EdgeDeployment", {"spec.canary.analysis.metrics": []}, "spec.canary.analysis.metrics"),
    Refusal("EdgeDeployment", {"spec.canary.analysis.failureLimit": -1}, "spec.canary.analysis.failureLimit"),
)

RULES = (
    Refusal("EdgeDeployment", {"spec.canary.steps.1.pause": "10 minutes"}, "spec.canary.steps[1].pause", _PAUSE),
    Refusal("EdgeDeployment", {"spec.canary.steps.1.pause": "manual"}, "spec.canary.steps[1].pause", _PAUSE),
    Refusal("EdgeDeployment", {"spec.canary.steps.1.pause": "1h30"}, "spec.canary.steps[1].pause", _PAUSE),
    Refusal(
        "EdgeDeployment", {"spec.canary.header.name": "x version"}, "spec.canary.header.name", "must be the name of"
    ),
    Refusal("EdgeDeployment", {"spec.canary.header.value": " v2"}, "spec.canary.header.value", "must be visible ASCII"),
    Refusal(
        "EdgeDeployment",
        {"spec.canary.analysis.interval": "0s"},
        "spec.canary.analysis.interval",
        "must be longer than nothing",
    ),
    Refusal(
        "EdgeDeployment",
        {"spec.canary.analysis.metrics.0.prometheus.address": "http://me:secret@prometheus:9090"},
        "spec.canary.analysis.metrics[0].prometheus.address",
        _PROMETHEUS,
    ),
    Refusal(
        "EdgeDeployment",
        {"spec.canary.analysis.metrics.0.prometheus.address": "file:///etc/passwd"},
        "spec.canary.analysis.metrics[0].prometheus.address",
        _PROMETHEUS,
    ),
    Refusal(
        "EdgeDeployment",
        {"spec.canary.analysis.metrics.0.prometheus.query": "up{pod='{{pod}}'}"},
        "spec.canary.analysis.metrics[0].prometheus.query",
        _PLACEHOLDERS,
    ),
    Refusal(
        "EdgeDeployment",
        {"spec.canary.analysis.metrics.0.min": REMOVED, "spec.canary.analysis.metrics.0.max": REMOVED},
        "spec.canary.analysis.metrics[0]",
        "give min or max, or both",
    ),
    Refusal("EdgeDeployment", {"spec.traffic": REMOVED}, "spec.canary", "canary needs traffic with provider"),
    Refusal(
        "EdgeDeployment",
        {"spec.traffic": {"provider": "GatewayAPI", "routeRef": {"name": "users-own"}}},
        "spec.canary",
        "with traffic.routeRef every canary.steps[].weight must be 0",
    ),
    Refusal("ModelVersion", {"spec.artifacts.0.minMemory": "2 GB"}, "spec.artifacts[0].minMemory", _QUANTITY),
    Refusal("ModelVersion", {"spec.artifacts.0.minMemory": -1}, "spec.artifacts[0].minMemory", _QUANTITY),
    Refusal("EdgeDeployment", {"spec.strategy.waves.0.nodes": 0}, "spec.strategy.waves[0].nodes", _SHARE),
    Refusal("EdgeDeployment", {"spec.strategy.waves.0.nodes": "0%"}, "spec.strategy.waves[0].nodes", _SHARE),
    Refusal("EdgeDeployment", {"spec.strategy.waves.0.nodes": "101%"}, "spec.strategy.waves[0].nodes", _SHARE),
    Refusal("EdgeDeployment", {"spec.strategy.waves.0.nodes": "7"}, "spec.strategy.waves[0].nodes", _SHARE),
    Refusal("EdgeDeployment", {"spec.strategy.maxUnavailable": "0%"}, "spec.strategy.maxUnavailable", _SHARE),
    Refusal("ModelVersion", {"spec.artifacts.0.sha256": "0f1e"}, "spec.artifacts[0].sha256", _DIGEST),
    Refusal("ModelVersion", {"spec.artifacts.0.sha256": "0F1E" * 16}, "spec.artifacts[0].sha256", _DIGEST),
    Refusal("ModelVersion", {"spec.artifacts.0.uri": "ftp://models.example/x"}, "spec.artifacts[0].uri", _URI),
    Refusal("ModelVersion", {"spec.artifacts.0.uri": "s3://models/with space"}, "spec.artifacts[0].uri", _URI),
    Refusal("ModelVersion", {"spec.artifacts.0.uri": "https://[models.example/x"}, "spec.artifacts[0].uri", _URI),
    Refusal("ModelVersion", {"spec.artifacts.0.uri": "hf://model.onnx"}, "spec.artifacts[0].uri", _REPOSITORY),
    Refusal("ModelVersion", {"spec.artifacts.0.uri": "hf://datasets/org"}, "spec.artifacts[0].uri", _REPOSITORY),
    Refusal("ModelVersion", {"spec.artifacts.0.uri": "hf://buckets/org/b/x"}, "spec.artifacts[0].uri", _REPOSITORY),
    Refusal("ModelVersion", {"spec.artifacts.0.uri": "hf://org/model"}, "spec.artifacts[0].uri", "must name one file"),
    Refusal("ModelVersion", {"spec.artifacts.0.signatureUri": "m.sig"}, "spec.artifacts[0].signatureUri", _URI),
    Refusal("ModelVersion", {"spec.verification.every": "90m"}, "spec.verification.every", _HOURS),
    Refusal("ModelVersion", {"spec.verification.every": "0h"}, "spec.verification.every", _HOURS),
    Refusal("ModelVersion", {"spec.verification.tolerance": "5%"}, "spec.verification.tolerance", _TOLERANCE),
    Refusal("ModelVersion", {"spec.verification.tolerance": "1.5"}, "spec.verification.tolerance", _TOLERANCE),
    Refusal("ModelVersion", {"spec.verification.memoryLimit": "4 GB"}, "spec.verification.memoryLimit", _QUANTITY),
    Refusal(
        "ModelVersion",
        {"spec.verification.inference": "None"},
        "spec.verification",
        "tolerance, samples and memoryLimit need inference: OnnxRuntime",
    ),
    Refusal("ModelVersion", {"spec.version": "1.4"}, "spec.version", _VERSION),
    Refusal("ModelVersion", {"spec.version": "v1.4.0"}, "spec.version", _VERSION),
    Refusal("ModelVersion", {"spec.version": "1.04.0"}, "spec.version", _VERSION),
    Refusal("ModelVersion", {"spec.version": "1.4.0+build"}, "spec.version", _VERSION),
    Refusal("ModelVersion", {"spec.version": "1.4.0-rc.01"}, "spec.version", _VERSION),
    Refusal("ModelVersion", {"spec.metrics": {"accuracy": "high"}}, "spec.metrics[accuracy]", _DECIMAL),
    Refusal("ModelVersion", {"spec.metrics": {"accuracy": "NaN"}}, "spec.metrics[accuracy]", _DECIMAL),
    Refusal("ModelVersion", {"spec.lineage.git.revision": "main"}, "spec.lineage.git.revision", _COMMIT),
    Refusal(
        "ModelVersion",
        {"spec.lineage.dvc.data.0.digest": "77aa"},
        "spec.lineage.dvc.data[0].digest",
        "must be md5: and",
    ),
    Refusal("TrainingJob", {"spec.source.git.repository": "git@a.example:b"}, "spec.source.git.repository", _GIT),
    Refusal("TrainingJob", {"spec.source.git.repository": "file:///srv/git"}, "spec.source.git.repository", _GIT),
    Refusal(
        "TrainingJob", {"spec.source.git.repository": "ssh://git@a.example:b/c"}, "spec.source.git.repository", _GIT
    ),
    Refusal("TrainingJob", {"spec.source.git.repository": "ssh://-oA=b/c"}, "spec.source.git.repository", _GIT),
    Refusal(
        "TrainingJob",
        {"spec.source.git.repository": "https://me:pw@a.example/b"},
        "spec.source.git.repository",
        _PASSWORD,
    ),
    Refusal("TrainingJob", {"spec.source.git.revision": "--upload-pack=x"}, "spec.source.git.revision", _REVISION),
    Refusal("TrainingJob", {"spec.source.git.revision": ""}, "spec.source.git.revision", _REVISION),
    Refusal("TrainingJob", {"spec.source.git.revision": "a..b"}, "spec.source.git.revision", "a name that Git allows"),
    Refusal(
        "TrainingJob", {"spec.source.dvc.targets": ["../data"]}, "spec.source.dvc.targets[0]", "must not have . or"
    ),
    Refusal("TrainingJob", {"spec.initializer": {}}, "spec.initializer", "initializer needs dataset, model, or both"),
    Refusal(
        "TrainingJob",
        {"spec.initializer.model": {"storageUri": "hf://org/backbone@v1/", "digest": f"sha256:{DIGEST}"}},
        "spec.initializer.model",
        "digest is of one file",
    ),
    Refusal("TrainingJob", {"spec.initializer.model.digest": DIGEST}, "spec.initializer.model.digest", _PREFIXED),
    Refusal("TrainingJob", {"spec.source.git.path": "/train"}, "spec.source.git.path", "no slash at its ends"),
    Refusal(
        "TrainingJob", {"spec.source.git.path": "a/../.."}, "spec.source.git.path", "must not have . or .. as a part"
    ),
    Refusal(
        "TrainingJob", {"spec.initializer.dataset.digest": "77aa" * 16}, "spec.initializer.dataset.digest", _PREFIXED
    ),
    Refusal("TrainingJob", {"spec.gate.0.value": "92%"}, "spec.gate[0].value", _DECIMAL),
    Refusal("TrainingJob", {"spec.gate.0.value": REMOVED}, "spec.gate[0]", _GATE),
    Refusal("TrainingJob", {"spec.gate.1.comparison": ">=", "spec.gate.1.value": "1"}, "spec.gate[1]", _GATE),
    Refusal("TrainingJob", {"spec.gate.1.direction": REMOVED}, "spec.gate[1]", _BASELINE),
    Refusal("TrainingJob", {"spec.gate.0.maxRegression": "0.1"}, "spec.gate[0]", _BASELINE),
    Refusal("TrainingJob", {"spec.gate.1.maxRegression": "-0.1"}, "spec.gate[1].maxRegression", "that is not negative"),
    Refusal("TrainingJob", {"spec.output.storageUri": "https://models.example"}, "spec.output.storageUri", _WRITABLE),
    Refusal("ModelVersion", {"metadata.name": "defect-detector-1.4.0"}, "metadata.name", _NAME),
    Refusal("ModelVersion", {"spec.version": "1.4.1"}, "metadata.name", _NAME),
    Refusal("ModelVersion", _LONG, "metadata.name", "metadata.name must have at most 63 characters"),
    Refusal(
        "ModelVersion", {"spec.artifacts.0.uri": "https://me:secret@a.example/m"}, "spec.artifacts[0].uri", _PASSWORD
    ),
    Refusal(
        "ModelVersion", {"spec.metrics": {"9lives": "1"}}, "spec.metrics", "every name of a metric must begin with"
    ),
    Refusal(
        "ModelVersion",
        {"spec.lineage.dvc.params": {"learning rate": "1"}},
        "spec.lineage.dvc.params",
        "every name of a parameter must have 1 to 128 visible ASCII characters",
    ),
    Refusal("TrainingJob", {"metadata.name": "a" * 41}, "metadata.name", f"metadata.name of a TrainingJob {_DNS}"),
    Refusal("TrainingJob", {"metadata.name": "1st"}, "metadata.name", f"metadata.name of a TrainingJob {_DNS}"),
    Refusal("TrainingJob", {"spec.termination": {}}, "spec.termination", "termination needs metric, maxStallSeconds"),
    Refusal(
        "TrainingJob", {"spec.termination.direction": REMOVED}, "spec.termination", "metric needs direction (Maximize"
    ),
    Refusal(
        "TrainingJob",
        {"spec.termination": {"maxStallSeconds": 60, "minDelta": "0.1"}},
        "spec.termination",
        "direction, patience and minDelta need metric",
    ),
    Refusal("TrainingJob", {"spec.termination.minDelta": "-0.1"}, "spec.termination.minDelta", "not negative"),
    Refusal(
        "TrainingJob",
        {"spec.termination.resourcePressure.cpu": "85"},
        "spec.termination.resourcePressure.cpu",
        "must be a share from 0.0 to 1",
    ),
    Refusal(
        "TrainingJob",
        {"spec.termination.resourcePressure.action": "LowerPriority"},
        "spec.termination.resourcePressure",
        "action LowerPriority needs priorityClassName",
    ),
    Refusal(
        "TrainingJob",
        {"spec.termination.resourcePressure.priorityClassName": "low"},
        "spec.termination.resourcePressure",
        "action LowerPriority needs priorityClassName",
    ),
    Refusal("TrainingJob", {"spec.checkpoint": REMOVED}, "spec.termination", "resourcePressure needs checkpoint"),
    Refusal(
        "TrainingJob",
        {"spec.steps.1.trainer": REMOVED, "spec.steps.1.image": "registry.example/train:1"},
        "spec.termination",
        "termination needs a distributed step",
    ),
    Refusal("TrainingJob", {"spec.steps": REMOVED}, "spec", "give either steps (a DAG) or trainer"),
    Refusal("TrainingJob", {"spec.trainer": {"image": "x"}}, "spec", "give either steps (a DAG) or trainer"),
    Refusal(
        "TrainingJob",
        {"spec.steps.1.dependsOn.0.name": "prepare"},
        "spec.steps",
        "steps[].dependsOn[].name must be the name of a step of this job",
    ),
    Refusal(
        "TrainingJob",
        {"spec.output.modelVersionName": "defect-detector-1-4-1"},
        "spec.output.modelVersionName",
        "output.modelVersionName must be model, a dash, and version",
    ),
    Refusal("TrainingJob", {"spec.steps.0.image": REMOVED}, "spec.steps[0]", "a step needs either image"),
    Refusal("TrainingJob", {"spec.steps.1.image": "x"}, "spec.steps[1]", "a step needs either image"),
    Refusal("TrainingJob", {"spec.steps.1.command": ["x"]}, "spec.steps[1]", "belong inside trainer"),
    Refusal("TrainingJob", {"spec.steps.1.env": []}, "spec.steps[1]", "belong inside trainer"),
    Refusal(
        "TrainingJob",
        {"spec.steps.0.resources.limits": {"gpu": 1}},
        "spec.steps[0].resources.limits",
        _KEYS,
    ),
    Refusal(
        "TrainingJob",
        {"spec.steps.0.resources": {"requests": {"cpu": 2}, "limits": {"cpu": "1999m"}}},
        "spec.steps[0].resources",
        "requests must not be greater than limits",
    ),
    Refusal(
        "TrainingJob",
        {"spec.steps.0.resources": {"requests": {"nvidia.com/gpu": 1}}},
        "spec.steps[0].resources",
        _GPU,
    ),
    Refusal(
        "TrainingJob",
        {"spec.steps.0.resources": {"requests": {"nvidia.com/gpu": 1}, "limits": {"nvidia.com/gpu": 2}}},
        "spec.steps[0].resources",
        _GPU,
    ),
    Refusal(
        "TrainingJob",
        {"spec.checkpoint.path": "/workspace/ckpt"},
        "spec.checkpoint.path",
        "must not lie in a folder of the system or in /workspace",
    ),
    Refusal(
        "TrainingJob", {"spec.checkpoint.path": "/a/../etc"}, "spec.checkpoint.path", "must not have . or .. as a part"
    ),
    Refusal("TrainingJob", {"spec.nodeSelector": {"-": "x"}}, "spec.nodeSelector", _LABEL_KEY),
    Refusal("TrainingJob", {"spec.tolerations": [{}]}, "spec.tolerations[0]", "a toleration without key needs"),
    Refusal(
        "TrainingJob",
        {"spec.tolerations": [{"key": "a", "operator": "Exists", "value": "b"}]},
        "spec.tolerations[0]",
        "operator: Exists takes no value",
    ),
    Refusal(
        "TrainingJob",
        {"spec.tolerations": [{"key": "a", "effect": "NoSchedule", "tolerationSeconds": 1}]},
        "spec.tolerations[0]",
        "tolerationSeconds needs effect: NoExecute",
    ),
    Refusal(
        "EdgeDeployment", {"metadata.name": "line.a"}, "metadata.name", f"metadata.name of an EdgeDeployment {_DNS}"
    ),
    Refusal(
        "EdgeDeployment",
        {"spec.pools.0.replicas": 2},
        "spec.pools[0].replicas",
        "replicas needs placement: Replicas",
    ),
    Refusal(
        "EdgeDeployment",
        {"spec.pools.0.nodeSelector": {}},
        "spec.pools[0].nodeSelector",
        "nodeSelector must have at least one label",
    ),
    Refusal(
        "EdgeDeployment",
        {"spec.strategy.waves.0.pools": ["gateways-amr"]},
        "spec.strategy.waves",
        "strategy.waves[].pools must be names of pools of this deployment",
    ),
    Refusal(
        "EdgeDeployment",
        {"spec.strategy.waves.0.name": "full"},
        "spec.strategy.waves[0].name",
        "must not be full or a number",
    ),
    Refusal(
        "EdgeDeployment",
        {"spec.strategy.waves.0.soak": "10 minutes"},
        "spec.strategy.waves[0].soak",
        "must be a duration such as 90s, 10m or 1h30m",
    ),
    Refusal(
        "EdgeDeployment",
        {"spec.strategy.maintenanceWindow.schedule": "nightly"},
        "spec.strategy.maintenanceWindow.schedule",
        "must be a cron schedule",
    ),
    Refusal(
        "EdgeDeployment",
        {"spec.strategy.maintenanceWindow.duration": "0s"},
        "spec.strategy.maintenanceWindow.duration",
        "must be longer than nothing",
    ),
    Refusal(
        "EdgeDeployment",
        {"spec.strategy.maintenanceWindow.timeZone": "../etc/passwd"},
        "spec.strategy.maintenanceWindow.timeZone",
        "must be the name of a time zone",
    ),
    Refusal("EdgeDeployment", {"spec.strategy.startsPerMinute": 0}, "spec.strategy.startsPerMinute"),
    Refusal(
        "EdgeDeployment",
        {"spec.strategy.failureThreshold.percentage": 101},
        "spec.strategy.failureThreshold.percentage",
    ),
    Refusal(
        "EdgeDeployment",
        {"spec.serving.ports.grpc": 8080},
        "spec.serving.ports",
        "http and grpc must be different ports",
    ),
    Refusal(
        "EdgeDeployment",
        {"spec.serving.modelMountPath": "/models/../etc"},
        "spec.serving.modelMountPath",
        "must not have . or .. as a part",
    ),
    Refusal(
        "EdgeDeployment",
        {"spec.serving.modelMountPath": "/tmp/models"},  # noqa: S108 (what is refused)
        "spec.serving.modelMountPath",
        "must not lie in a folder of the system",
    ),
    Refusal(
        "EdgeDeployment",
        {"spec.serving.env.0.name": "MODELFLEET_ORDER"},
        "spec.serving.env[0].name",
        "names that begin with MODELFLEET_ are the operator's",
    ),
    Refusal("EdgeDeployment", {"spec.traffic.hosts": []}, "spec.traffic.hosts", "hosts must name at least one host"),
    Refusal(
        "EdgeDeployment-gateway",
        {"spec.traffic.parentRefs": []},
        "spec.traffic",
        "provider: GatewayAPI needs either parentRefs",
    ),
    Refusal(
        "EdgeDeployment-gateway",
        {"spec.traffic.routeRef": {"name": "users-own"}, "spec.traffic.hosts": REMOVED},
        "spec.traffic",
        "provider: GatewayAPI needs either parentRefs",
    ),
    Refusal(
        "EdgeDeployment-gateway",
        {"spec.traffic.gateways": ["istio-system/ingress"]},
        "spec.traffic.gateways",
        "gateways needs provider: Istio",
    ),
    Refusal(
        "EdgeDeployment-gateway", {"spec.traffic.mtls": "Strict"}, "spec.traffic.mtls", "mtls needs provider: Istio"
    ),
    *(
        Refusal(
            "EdgeDeployment",
            {"spec.traffic.probe.url": url},
            "spec.traffic.probe.url",
            "must be an http or https URL without credentials, query or path segments that begin with a dot",
        )
        for url in (
            "ingress.istio-system",
            "file:///etc/passwd",
            "http://me:secret@ingress",
            "http://ingress/v2?x=1",
            "http://ingress/v2/../../admin",
            "http://ingress/.well-known",
        )
    ),
    Refusal(
        "EdgeDeployment",
        {
            "spec.traffic": {"provider": "None", "probe": {"url": "http://ingress"}},
            "spec.canary": REMOVED,
        },
        "spec.traffic.probe",
        "probe needs provider: Istio or GatewayAPI",
    ),
    Refusal(
        "EdgeDeployment",
        {"spec.traffic.parentRefs": [{"name": "edge-gateway"}]},
        "spec.traffic.parentRefs",
        "parentRefs needs provider: GatewayAPI",
    ),
    Refusal(
        "EdgeDeployment",
        {"spec.traffic.routeRef": {"name": "users-own"}, "spec.traffic.hosts": ["defect.example"]},
        "spec.traffic.routeRef",
        "routeRef needs provider: GatewayAPI",
    ),
    Refusal(
        "EdgeDeployment-route",
        {"spec.traffic.hosts": ["defect.example"]},
        "spec.traffic.hosts",
        "hosts are those of the route that routeRef names",
    ),
    Refusal(
        "EdgeDeployment",
        {"spec.pools.1.placement": "EveryNode", "spec.pools.1.replicas": REMOVED, "spec.traffic.pools": REMOVED},
        "spec.traffic",
        "traffic needs a pool with placement: Replicas",
    ),
    Refusal(
        "EdgeDeployment",
        {"spec.traffic.pools": ["gateways-arm"]},
        "spec.traffic.pools",
        "traffic.pools must be names of pools with placement: Replicas",
    ),
    Refusal(
        "EdgeDeployment",
        {
            "spec.pools": [
                {"name": name, "nodeSelector": {"pool": name}, "placement": "Replicas"} for name in ("a", "b", "c")
            ],
            "spec.strategy.waves": [],
            "spec.traffic.pools": ["a", "b"],
        },
        "spec.traffic.pools",
        "traffic.pools must be one pool, or all pools with placement: Replicas",
    ),
)
