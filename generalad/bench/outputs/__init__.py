"""What is made of a bench's report; all say the same in the same words and rows (text.py).

markdown: a comment on a pull request. github_benchmark: the JSON that github-action-benchmark
reads. history: an HTML page from a folder of reports. The table on a terminal is in the command.
"""
