#compdef gad
_gad() {
    local line kind=""
    local -a found
    while IFS= read -r line; do
        case $line in
            :files) kind=files ;;
            :folders) kind=folders ;;
            *$'\t'*) found+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}") ;;
            *) found+=("${line//:/\\:}") ;;
        esac
    done < <("${~words[1]}" _complete "${(@Q)words[2,CURRENT]}" 2>/dev/null)
    [[ $PREFIX == --*=* ]] && compset -P '*='
    case $kind in
        files) _files ;;
        folders) _files -/ ;;
        *) _describe -V gad found ;;
    esac
}
if [[ $funcstack[1] == _gad ]]; then
    _gad "$@"
else
    compdef _gad gad
fi
