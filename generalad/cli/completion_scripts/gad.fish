function __gad_complete
    set -l words (commandline -opc)
    set -l program $words[1]
    set -e words[1]
    set -l current (commandline -ct)
    set -l prefix (string match -r -- '^--[^=]*=' "$current")
    set -l value (string replace -r -- '^--[^=]*=' '' "$current")
    for line in ($program _complete $words "$current" 2>/dev/null)
        switch $line
            case :files
                printf '%s\n' "$prefix"(__fish_complete_path "$value")
            case :folders
                printf '%s\n' "$prefix"(__fish_complete_directories "$value" '')
            case '*'
                printf '%s\n' "$prefix$line"
        end
    end
end
complete -c gad -f -k -a '(__gad_complete)'
