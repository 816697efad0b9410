"""EdgeDeployments; a package, so that its cluster goes down when its last test is done."""
