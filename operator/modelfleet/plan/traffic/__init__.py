"""Requests to the replicas of two revisions: the canary's steps, the route they ask for, and its objects."""
