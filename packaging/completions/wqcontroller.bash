# bash completion for wqcontroller(8)                       -*- shell-script -*-
_wqcontroller() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
  COMPREPLY=()
  case $previous in
    --config)
      mapfile -t COMPREPLY < <(compgen -f -- "$current")
      compopt -o filenames 2>/dev/null
      return
      ;;
    client | help) return ;;
  esac
  mapfile -t COMPREPLY < <(compgen -W '--config --check-config --help --version client help' -- "$current")
}
complete -F _wqcontroller wqcontroller
