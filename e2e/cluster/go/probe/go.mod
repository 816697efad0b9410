// A small program for pods that test the cluster itself.
module modelfleet.dev/e2e/probe

go 1.26.0
