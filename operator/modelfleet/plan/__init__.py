"""Pure decisions: (spec, observed, now) -> an Outcome. No I/O, no clock, no client.

A folder for each kind, and one for the traffic of an EdgeDeployment; what all of them share lies here.
"""
