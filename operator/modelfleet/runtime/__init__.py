"""What runs in pods: fetching, verifying and serving models, and the library for training steps.

Each program is ``python -m modelfleet.runtime <verb>`` (see ``__main__``). Nothing here knows the operator or talks to
the Kubernetes API: an order comes in through the environment, a report leaves through the termination message
(``modelfleet.api.wire``).
"""

import os

# ONNX Runtime's official builds report each model they load, with hashes of its graph, to their maker over the network.
# What runs in a factory tells nobody: the variable is read when onnxruntime is imported, so it is set before that.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# The same of the Hub's client.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
