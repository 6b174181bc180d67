# bash completion for wqctl(1)                              -*- shell-script -*-
_wqctl() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
  local command='' words='' word at options='--url --token-file --json --help'
  # The options that say where the controller is, for the list of names.
  local door=()
  COMPREPLY=()
  for ((at = 1; at < COMP_CWORD; at++)); do
    word=${COMP_WORDS[at]}
    case $word in
      --url | --token-file)
        # bash takes a URL apart at its colons.
        word+=" ${COMP_WORDS[at + 1]}"
        while [[ ${COMP_WORDS[at + 2]} == : && at -lt $((COMP_CWORD - 3)) ]]; do
          word+=":${COMP_WORDS[at + 3]}"
          ((at += 2))
        done
        door+=("${word%% *}" "${word#* }")
        ((at += 1))
        ;;
      --config | --state | --timeout | --parameters-file | --lines | -n | --delay | -d | --account | --junit | --port | --folder | --connect | --wait)
        ((at += 1))
        ;;
      -*) ;;
      *) [[ $command ]] || command=$word ;;
    esac
  done
  case $previous in
    --token-file | --config | --parameters-file | --junit | --folder)
      mapfile -t COMPREPLY < <(compgen -f -- "$current")
      compopt -o filenames 2>/dev/null
      return
      ;;
    --state)
      mapfile -t COMPREPLY < <(compgen -W 'init loading scaning confirming updating running stop' -- "$current")
      return
      ;;
    --url | --timeout | --lines | -n | --delay | -d | --machine | --port | --connect | --wait) return ;;
  esac
  case $command in
    '')
      options+=' --version'
      words='list show start stop restart relogin remove forget move qr logs events explain top scene sandbox check effective bugreport help'
      ;;
    list) options+=' --state --needs-person --machine --names --wide' ;;
    start) options+=' --parameters-file --machine --no-wait --timeout' ;;
    relogin) options+=' --forget' ;;
    forget) options+=' --yes' ;;
    logs) options+=' --follow --lines' ;;
    top) options+=' --delay' ;;
    scene) options+=' --account --junit --timeout --wait' ;;
    sandbox) options+=' --port --folder --connect' ;;
    check | effective | bugreport) options+=' --config' ;;
  esac
  if [[ $previous == --account ]]; then
    # An account is wanted, whatever the command takes besides.
    command=show
  elif [[ $current == -* || ! $command ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$options $words" -- "$current")
    return
  fi
  case $command in
    scene)
      mapfile -t COMPREPLY < <(compgen -f -- "$current")
      compopt -o filenames 2>/dev/null
      ;;
    list | show | start | stop | restart | relogin | remove | forget | move | qr | logs | explain)
      local name
      while IFS= read -r name; do
        [[ $name == "$current"* ]] || continue
        # A name may have spaces and quotes.
        printf -v name %q "$name"
        COMPREPLY+=("$name")
      done < <(wqctl "${door[@]}" list --names 2>/dev/null)
      ;;
  esac
}
complete -F _wqctl wqctl
