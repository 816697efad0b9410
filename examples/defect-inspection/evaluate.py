"""Step ``evaluate``: export, quantize and measure the model, beside a scikit-learn baseline on the same split.

The baseline is an independent one: a random forest on hand-made features of the same images, fitted here and now. What
the gate judges is the accuracy of the very file that is registered, answered by ONNX Runtime.
"""

import time

import numpy as np
import onnxruntime
import torch
from network import Inspector
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import accuracy_score, f1_score

from modelfleet.runtime import train

TOLERANCE = 1e-4
"""Largest difference of a logit between PyTorch and ONNX Runtime."""


def predicted(path: str, images: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the classes that ONNX Runtime answers."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"image": images})
    return np.asarray(logits).argmax(axis=1)


def latency_ms(path: str, image: NDArray[np.float32]) -> float:
    """Return the 95th percentile of the time for one image, in milliseconds, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, sess_options=options, providers=["CPUExecutionProvider"])
    times = []
    for _ in range(220):
        began = time.perf_counter()
        session.run(None, {"image": image})
        times.append(time.perf_counter() - began)
    return float(np.percentile(times[20:], 95) * 1000)


def features(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what a classical inspection would measure: pixels and statistics of the image less its rows' means."""
    flat = images[:, 0] - images[:, 0].mean(axis=2, keepdims=True)
    quantiles = np.quantile(flat, [0, 0.005, 0.02, 0.1, 0.5, 0.9, 0.98, 0.995, 1], axis=(1, 2)).T
    spread = np.stack([flat.std(axis=(1, 2)), flat.std(axis=1).max(axis=1), flat.std(axis=2).max(axis=1)], axis=1)
    return np.concatenate([flat.reshape(len(flat), -1), quantiles, spread], axis=1).astype(np.float32)


def main() -> None:
    """Save the artifacts ``fp32`` and ``int8`` and the metrics."""
    step = train.step(local="evaluate")
    with np.load(step.inputs("preprocess").file("split.npz")) as split:
        parts = {name: split[name] for name in split.files}
    model = Inspector()
    model.load_state_dict(torch.load(step.inputs("train").file("weights.pt"), weights_only=True))
    images, labels = parts["test_images"], parts["test_labels"]

    fp32 = train.export_onnx(model, {"image": images[:4]}, step.folder / "fp32.onnx", outputs=["logits"])
    train.check(fp32, model, {"image": images[:64]}, TOLERANCE)
    seen = parts["train_images"][:256]
    int8 = train.quantize_int8(fp32, step.folder / "int8.onnx", ({"image": part} for part in np.split(seen, 8)))

    baseline = RandomForestClassifier(n_estimators=300, n_jobs=2, random_state=0)
    baseline.fit(features(parts["train_images"]), parts["train_labels"])
    answers = {
        "": predicted(str(fp32), images),
        "int8_": predicted(str(int8), images),
        "baseline_": baseline.predict(features(images)),
    }
    metrics: dict[str, float | str] = {"latency_ms_p95": f"{latency_ms(str(fp32), images[:1]):.3f}"}
    for prefix, answer in answers.items():
        metrics[f"{prefix}accuracy"] = f"{accuracy_score(labels, answer):.4f}"
        metrics[f"{prefix}macro_f1"] = f"{f1_score(labels, answer, average='macro'):.4f}"

    step.save_artifact("fp32", fp32, precision="fp32", platforms=["linux/amd64", "linux/arm64"], min_memory="64Mi")
    step.save_artifact("int8", int8, precision="int8", platforms=["linux/amd64", "linux/arm64"], min_memory="32Mi")
    step.finish(metrics)


if __name__ == "__main__":
    main()
