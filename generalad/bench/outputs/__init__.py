"""What is made of a bench's report; all say the same in the same words and rows (text.py).

terminal: words and colours. github: a comment on a pull request, and the JSON of
github-action-benchmark. history: an HTML page from a folder of reports.
"""
