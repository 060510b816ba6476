"""The command line: `killswitch …`, also found by kubectl as `kubectl killswitch …`."""
