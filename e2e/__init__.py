"""What is around the product: the local cluster, the demo, the benchmark. Nothing here is installed with modelfleet."""
