"""Kopf: an event of the API server becomes keys in the queue; so does a report of a pod. Nothing is decided here."""
