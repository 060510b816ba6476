"""One third party each, behind the ports. Adapters do not import each other."""
