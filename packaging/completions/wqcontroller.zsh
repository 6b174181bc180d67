#compdef wqcontroller
_arguments \
  '--config[read this file instead of those in /usr/lib, /run and /etc]:file:_files' \
  '--check-config[check the configuration, say what is wrong with it, and end]' \
  '(- *)'{-h,--help}'[say how it is called, and end]' \
  '(- *)'{-V,--version}'[say which version it is, and end]' \
  '1:command:((client\:"be one client instead of the controller" help\:"say how it is called, and end"))'
