"""Bytes in, judgements out: what others send us, parsed, verified and received."""
