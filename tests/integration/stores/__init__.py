"""Stores that artifacts lie in; a package, so that its servers go down when its last test is done."""
