"""The CRDs; a package, so that its control plane goes down when its last test is done."""
