"""What is known of one stream: its rule, decisions, events, camera faults, drift and counts."""
