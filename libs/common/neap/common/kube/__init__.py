"""The Kubernetes API as a port: what is read, watched, written, and with which promises."""
