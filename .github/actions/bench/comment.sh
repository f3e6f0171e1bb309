#!/usr/bin/env bash
# Puts the report into the pull request: into its own comment of an earlier run, else into a new one.
# A fork's token may not write; that is a warning, because the summary has the report anyway.
set -euo pipefail

mark="<!-- gad bench: $NAME -->"
body="$FOLDER/comment.md"
{
    echo "$mark"
    echo
    cat "$FOLDER/bench.md"
} > "$body"

comments="repos/$REPOSITORY/issues/$PULL_REQUEST/comments"
own=".[] | select(.body | startswith(\"$mark\")) | .id"
if ! found=$(gh api "$comments" --paginate --jq "$own"); then
    echo "::warning::the comments of the pull request cannot be read; the summary has the report"
    exit 0
fi
first=${found%%$'\n'*}
if [[ -n "$first" ]]; then
    request=(--method PATCH "repos/$REPOSITORY/issues/comments/$first")
else
    request=(--method POST "$comments")
fi
gh api "${request[@]}" -F "body=@$body" > /dev/null ||
    echo "::warning::no comment: give the job the permission pull-requests: write (forks have none)"
