"""What is made of a bench's record: each module turns a `Report` into one form.

    table            words and colours on a terminal
    markdown         a comment on a pull request
    github_benchmark the JSON that github-action-benchmark reads
    history          an HTML page from a folder of reports (history_folder, _figures, _plots)
    read             a report back from its JSON
    schema           the JSON Schema of that JSON, published as schema.json

They say the same in the same words (wording.py) and measure nothing.
"""
