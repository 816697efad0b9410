"""What runs in pods: fetching, verifying and serving models, and the library for training steps.

Each program is ``python -m modelfleet.runtime <verb>`` (see ``__main__``). Nothing here knows the operator or talks to
the Kubernetes API: an order comes in through the environment, a report leaves through the termination message
(``modelfleet.api.wire``).
"""
