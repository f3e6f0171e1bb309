"""Delivery: notifications and results to brokers and web servers, kept on disk until they arrive.

    sink (NetworkSink) -> outbox (a bounded queue in one file) -> sender (a thread) -> transport

`put` into the outbox is a promise: what became of every message is counted, also across a kill.
A message is delivered at least once and in order; its id tells repetitions apart.
"""
