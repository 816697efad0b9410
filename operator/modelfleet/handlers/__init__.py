"""What comes in: kopf's events of what users write and of routes, and reports of pods. Nothing is decided here."""
