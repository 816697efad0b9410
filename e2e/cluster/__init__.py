"""Clusters to try modelfleet on: ``python -m e2e.cluster up|down|status``.

A cluster is one real node, where pods run, and any number of simulated gateways. ``choice`` picks where it comes from:
the one KUBECONFIG names, kind where Docker answers, or the local one that ``local`` builds out of host processes.
Callers use ``choice``. Nothing in here knows modelfleet's kinds, and nothing in the product knows what it is on.
"""
