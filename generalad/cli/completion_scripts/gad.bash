_gad() {
    local word prefix="" current="${COMP_WORDS[COMP_CWORD]}"
    [[ $current == --*=* ]] && prefix="${current%%=*}="
    COMPREPLY=()
    compopt +o default 2>/dev/null
    while IFS=$'\t' read -r word _; do
        case $word in
            :files) compopt -o default 2>/dev/null ;;
            :folders) compopt -o dirnames 2>/dev/null ;;
            *) COMPREPLY+=("$prefix$word") ;;
        esac
    done < <("${COMP_WORDS[0]/#\~/$HOME}" _complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o default -F _gad gad
