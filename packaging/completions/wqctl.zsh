#compdef wqctl
_wqctl_accounts() {
  local -a names door
  local at
  for ((at = 2; at < CURRENT; at++)); do
    case $words[at] in
      --url | --token-file) door+=($words[at] ${(Q)words[at + 1]}) ;;
    esac
  done
  names=(${(f)"$(wqctl $door list --names 2>/dev/null)"})
  compadd -a names
}

_wqctl_commands() {
  local -a commands=(
    'list:list accounts'
    'show:show all that is known of an account'
    'start:start an account, and wait until it runs'
    'stop:stop accounts, and keep them in the list'
    'restart:start the processes of accounts anew'
    'relogin:log accounts with an implementation in anew'
    'remove:stop accounts and take them out of the list'
    'forget:delete all that stopped accounts have on disk'
    'move:take an account to another machine'
    'qr:show the login code of an account'
    "logs:show what an account's programs printed"
    'events:show what changes, as it changes'
    'explain:say why an account is as it is'
    'top:show all accounts with what they use'
    'scene:play scenes to a bot in the sandbox'
    'sandbox:run a controller with a sandbox to try a bot in'
    'check:check the configuration'
    'effective:show every option, and where its value comes from'
    'bugreport:print what a report of a bug should have'
    'help:say how it is called'
  )
  _describe command commands
}

_wqctl() {
  local curcontext=$curcontext state line
  local -a general=(
    '--url[where the controller is]:URL:'
    '--token-file[read the token from this file]:file:_files'
    '--json[print JSON]'
    '(- *)'{-h,--help}'[say how it is called, and end]'
  )
  _arguments -C $general '(- *)'{-V,--version}'[say which version it is, and end]' '1:command:_wqctl_commands' '*::argument:->arguments'
  [[ $state == arguments ]] || return
  case $words[1] in
    list)
      _arguments $general '--state[only accounts in this state]:state:(init loading scaning confirming updating running stop)' \
        '--needs-person[only accounts that wait for a person]' '--machine[only accounts of this machine]:machine:' '--names[print names alone]' '--wide[cut nothing off]' \
        '1:part of the name:_wqctl_accounts'
      ;;
    start)
      _arguments $general '--parameters-file[read more parameters from this file]:file:_files' \
        '--machine[where it starts if it is new]:machine:' '--no-wait[return as soon as its process runs]' '--timeout[how long to wait]:seconds:' '1:account:_wqctl_accounts'
      ;;
    stop | restart | remove) _arguments $general '*:account:_wqctl_accounts' ;;
    relogin) _arguments $general '--forget[remove the saved login first]' '*:account:_wqctl_accounts' ;;
    forget) _arguments $general '--yes[do not ask]' '*:account:_wqctl_accounts' ;;
    move) _arguments $general '1:account:_wqctl_accounts' '2:machine:' ;;
    show | qr | explain) _arguments $general '1:account:_wqctl_accounts' ;;
    logs)
      _arguments $general {-f,--follow}'[go on with what comes]' {-n,--lines}'[how many lines of what was]:count:' \
        '1:account:_wqctl_accounts'
      ;;
    top) _arguments $general {-d,--delay}'[seconds between two looks]:seconds:' ;;
    scene)
      _arguments $general '--account[the account that plays the bot]:account:_wqctl_accounts' \
        '--junit[write the outcome to this file]:file:_files' '--timeout[how long an answer may take]:seconds:' \
        '--wait[how long a bot that is not connected yet is waited for]:seconds:' '1:file:_files'
      ;;
    sandbox) _arguments $general '--port[the port to listen on]:port:' '--folder[keep the files of the account in this folder]:folder:_files -/' \
        '*--connect[connect to a bot that waits for a WebSocket here]:URL:' ;;
    check | effective | bugreport) _arguments $general '--config[read this file alone]:file:_files' ;;
    *) _arguments $general ;;
  esac
}

_wqctl "$@"
