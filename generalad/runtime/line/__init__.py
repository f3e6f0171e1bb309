"""A production line: events, camera faults and drift of its streams, its TOML file, its metrics."""
