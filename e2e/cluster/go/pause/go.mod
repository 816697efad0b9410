// The program of a pod's sandbox container: it holds the pod's namespaces.
module modelfleet.dev/e2e/pause

go 1.26.0
