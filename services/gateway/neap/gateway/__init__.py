"""The door: the only client of the Kubernetes API. Workloads and nodes come in; bindings, evictions and mirrors go out."""
