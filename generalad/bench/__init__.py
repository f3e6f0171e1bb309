"""`gad bench`: latency that is compared in pairs, with its own uncertainty.

    worker (a process for each side) -> pairs (interleaved, random order) -> comparison -> gates

A ratio of two things measured side by side means something on a noisy machine; a number measured
alone does not. Never imports torch.
"""
