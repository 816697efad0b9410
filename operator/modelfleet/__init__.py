"""modelfleet: from a Git commit to every gateway of a factory fleet."""

__version__ = "0.1.0"
