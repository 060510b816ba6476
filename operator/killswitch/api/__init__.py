"""The kinds of `killswitch.dev/v1alpha1` as pydantic models: the one source of all schemas.

`crds.py` and `admission/` generate what the API server enforces from them; `make gen` writes
the files and a test compares. Nothing here does I/O.
"""
