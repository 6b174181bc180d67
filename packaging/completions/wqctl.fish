function __wqctl_accounts
  set -l words (commandline -opc)
  set -l door
  for at in (seq (count $words))
    if contains -- $words[$at] --url --token-file
      set -a door $words[$at] $words[(math $at + 1)]
    end
  end
  wqctl $door list --names 2>/dev/null
end

complete -c wqctl -f
complete -c wqctl -l url -x -d 'Where the controller is'
complete -c wqctl -l token-file -r -F -d 'Read the token from this file'
complete -c wqctl -l json -d 'Print JSON'
complete -c wqctl -s h -l help -d 'Say how it is called, and end'
complete -c wqctl -n __fish_use_subcommand -s V -l version -d 'Say which version it is, and end'
complete -c wqctl -n __fish_use_subcommand -a list -d 'List accounts'
complete -c wqctl -n __fish_use_subcommand -a show -d 'Show all that is known of an account'
complete -c wqctl -n __fish_use_subcommand -a start -d 'Start an account, and wait until it runs'
complete -c wqctl -n __fish_use_subcommand -a stop -d 'Stop accounts, and keep them in the list'
complete -c wqctl -n __fish_use_subcommand -a restart -d 'Start the processes of accounts anew'
complete -c wqctl -n __fish_use_subcommand -a relogin -d 'Log accounts with an implementation in anew'
complete -c wqctl -n __fish_use_subcommand -a remove -d 'Stop accounts and take them out of the list'
complete -c wqctl -n __fish_use_subcommand -a forget -d 'Delete all that stopped accounts have on disk'
complete -c wqctl -n __fish_use_subcommand -a move -d 'Take an account to another machine'
complete -c wqctl -n __fish_use_subcommand -a qr -d 'Show the login code of an account'
complete -c wqctl -n __fish_use_subcommand -a logs -d 'Show what the programs of an account printed'
complete -c wqctl -n __fish_use_subcommand -a events -d 'Show what changes, as it changes'
complete -c wqctl -n __fish_use_subcommand -a explain -d 'Say why an account is as it is'
complete -c wqctl -n __fish_use_subcommand -a top -d 'Show all accounts with what they use'
complete -c wqctl -n __fish_use_subcommand -a scene -d 'Play scenes to a bot in the sandbox'
complete -c wqctl -n __fish_use_subcommand -a sandbox -d 'Run a controller with a sandbox to try a bot in'
complete -c wqctl -n __fish_use_subcommand -a check -d 'Check the configuration'
complete -c wqctl -n __fish_use_subcommand -a effective -d 'Show every option, and where its value comes from'
complete -c wqctl -n __fish_use_subcommand -a bugreport -d 'Print what a report of a bug should have'
complete -c wqctl -n __fish_use_subcommand -a help -d 'Say how it is called'
complete -c wqctl -n '__fish_seen_subcommand_from list show start stop restart relogin remove forget move qr logs explain' -a '(__wqctl_accounts)'
complete -c wqctl -n '__fish_seen_subcommand_from list' -l state -x -a 'init loading scaning confirming updating running stop' -d 'Only accounts in this state'
complete -c wqctl -n '__fish_seen_subcommand_from list' -l needs-person -d 'Only accounts that wait for a person'
complete -c wqctl -n '__fish_seen_subcommand_from list' -l machine -x -d 'Only accounts of this machine'
complete -c wqctl -n '__fish_seen_subcommand_from list' -l names -d 'Print names alone'
complete -c wqctl -n '__fish_seen_subcommand_from list' -l wide -d 'Cut nothing off'
complete -c wqctl -n '__fish_seen_subcommand_from start' -l parameters-file -r -F -d 'Read more parameters from this file'
complete -c wqctl -n '__fish_seen_subcommand_from start' -l machine -x -d 'Where it starts if it is new'
complete -c wqctl -n '__fish_seen_subcommand_from start' -l no-wait -d 'Return as soon as its process runs'
complete -c wqctl -n '__fish_seen_subcommand_from start' -l timeout -x -d 'How long to wait, in seconds'
complete -c wqctl -n '__fish_seen_subcommand_from relogin' -l forget -d 'Remove the saved login first'
complete -c wqctl -n '__fish_seen_subcommand_from forget' -l yes -d 'Do not ask'
complete -c wqctl -n '__fish_seen_subcommand_from logs' -s f -l follow -d 'Go on with what comes'
complete -c wqctl -n '__fish_seen_subcommand_from logs' -s n -l lines -x -d 'How many lines of what was'
complete -c wqctl -n '__fish_seen_subcommand_from top' -s d -l delay -x -d 'Seconds between two looks'
complete -c wqctl -n '__fish_seen_subcommand_from scene' -F
complete -c wqctl -n '__fish_seen_subcommand_from scene' -l account -x -a '(__wqctl_accounts)' -d 'The account that plays the bot'
complete -c wqctl -n '__fish_seen_subcommand_from scene' -l junit -r -F -d 'Write the outcome to this file'
complete -c wqctl -n '__fish_seen_subcommand_from scene' -l timeout -x -d 'How long an answer may take, in seconds'
complete -c wqctl -n '__fish_seen_subcommand_from scene' -l wait -x -d 'How long a bot that is not connected yet is waited for, in seconds'
complete -c wqctl -n '__fish_seen_subcommand_from sandbox' -l port -x -d 'The port to listen on'
complete -c wqctl -n '__fish_seen_subcommand_from sandbox' -l folder -r -F -d 'Keep the files of the account in this folder'
complete -c wqctl -n '__fish_seen_subcommand_from sandbox' -l connect -x -d 'Connect to a bot that waits for a WebSocket here'
complete -c wqctl -n '__fish_seen_subcommand_from check effective bugreport' -l config -r -F -d 'Read this file alone'
