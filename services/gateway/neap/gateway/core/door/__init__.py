"""What Kubernetes asks over HTTP: admission, metrics, the extender."""
