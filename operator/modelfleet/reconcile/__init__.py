"""One module a kind: gather what its plan needs, call the plan. The queue and the executor live here too."""
