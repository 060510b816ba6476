"""What other programs send or expose: bytes in, samples and judgements out.

No module here decides anything; a sample that is too old for a decision is handed on with its own
time, and `series.fresh` says so.
"""
