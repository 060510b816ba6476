"""The buckets of every duration: a lock takes milliseconds, a stop with a stuck pod minutes."""

SECONDS = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05),
    *(0.1, 0.2, 0.5, 1.0, 2.0, 5.0),
    *(10.0, 30.0, 60.0, 120.0, 300.0),
)
