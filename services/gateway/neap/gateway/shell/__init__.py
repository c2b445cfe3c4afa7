"""The API server over HTTP, and the HTTP that Kubernetes asks of us: webhooks, metrics, the extender."""
