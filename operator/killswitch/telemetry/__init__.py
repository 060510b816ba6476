"""What the processes say of themselves: log lines, metrics with health, traces."""
