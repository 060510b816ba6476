"""killswitch keeps AI model serving in Kubernetes under human control."""

__version__ = "0.1.0"
