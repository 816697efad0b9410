"""The public contract: one pydantic module a kind. ``crds/`` is generated from it."""
