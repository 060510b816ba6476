"""Signals in, decisions, the stop sequence. Active-active: every replica may do every step."""
