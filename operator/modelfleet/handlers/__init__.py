"""Kopf: an event of the API server becomes keys in the queue. Nothing is decided here."""
