complete -c wqcontroller -f
complete -c wqcontroller -l config -r -F -d 'Read this file instead of those in /usr/lib, /run and /etc'
complete -c wqcontroller -l check-config -d 'Check the configuration, say what is wrong with it, and end'
complete -c wqcontroller -s h -l help -d 'Say how it is called, and end'
complete -c wqcontroller -s V -l version -d 'Say which version it is, and end'
complete -c wqcontroller -n __fish_use_subcommand -a client -d 'Be one client instead of the controller'
complete -c wqcontroller -n __fish_use_subcommand -a help -d 'Say how it is called, and end'
