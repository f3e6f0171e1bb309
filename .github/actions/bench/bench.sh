#!/usr/bin/env bash
# Runs gad bench with the action's inputs and keeps its exit code for the last step, so that a report
# is kept and shown when a gate says no, too.
set -euo pipefail

if [[ ! "$NAME" =~ ^[A-Za-z0-9._-]+$ ]]; then
    echo "::error::name: expected letters, digits, dots, dashes and underscores, found '$NAME'"
    exit 2
fi
# A checkout without `lfs: true` leaves a few lines of text where the artifact should be.
for file in "$ARTIFACT" "$AGAINST"; do
    if [[ -f "$file" ]] && head -c 40 "$file" | grep -q '^version https://git-lfs'; then
        echo "::error::$file is a Git LFS pointer: check out with lfs: true"
        exit 1
    fi
done
folder="$RUNNER_TEMP/gad-bench-$NAME"
# An earlier bench of that name in this job must not be taken for this one.
rm -rf "$folder"
mkdir -p "$folder"

command=(gad bench "$ARTIFACT" --budget "$BUDGET")
[[ -z "$AGAINST" ]] || command+=(--against "$AGAINST")
[[ -z "$MAX_SLOWDOWN" ]] || command+=(--max-slowdown "$MAX_SLOWDOWN")
[[ -z "$MAX_P95" ]] || command+=(--max-p95 "$MAX_P95")
[[ -z "$MAX_MEMORY" ]] || command+=(--max-memory "$MAX_MEMORY")
# `read` goes on over line ends and says no where the text ends.
read -r -d '' -a more <<< "$OPTIONS" || true
# Bash 3.2, which macOS has, takes an empty array for an unset variable.
command+=(${more[@]+"${more[@]}"} --json "$folder/bench.json" --markdown "$folder/bench.md")
command+=(--github "$folder/github-action-benchmark.json")

code=0
"${command[@]}" || code=$?
{
    echo "exit-code=$code"
    echo "folder=$folder"
} >> "$GITHUB_OUTPUT"
if [[ -f "$folder/bench.json" ]]; then
    # Isolated, or a json.py of the checkout would run here.
    verdict=$(python -I -c 'import json, sys; print(json.load(open(sys.argv[1]))["verdict"] or "")' \
        "$folder/bench.json")
    {
        echo "report=$folder/bench.json"
        echo "verdict=$verdict"
    } >> "$GITHUB_OUTPUT"
    cat "$folder/bench.md" >> "$GITHUB_STEP_SUMMARY"
fi
