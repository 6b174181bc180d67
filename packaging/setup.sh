# shellcheck shell=bash
# Sourced by ./run and tests/run: what building needs. As root on Debian it is installed, with the system's package manager
# and, for Rust where that has none, rustup; otherwise all that is missing is named at once, with the commands that install it.

export DEBIAN_FRONTEND=noninteractive
[ -d "$HOME/.cargo/bin" ] && PATH=$HOME/.cargo/bin:$PATH

say() { printf '\n== %s (after %d s)\n' "$*" "$SECONDS"; }
fail() { printf '%s: %s\n' "$0" "$*" >&2; exit 1; }

has_apt() { command -v apt-get >/dev/null; }
can_install() { [ "$(id -u)" = 0 ] && has_apt; }
# Shows what apt-get says only where it fails.
install() {
  local log
  log=$(mktemp)
  say "installing $*"
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@"; } >"$log" 2>&1 ||
    { cat "$log" >&2 && fail "apt-get can't install $*; why is said above."; }
  rm "$log"
}

# need PROGRAM:PACKAGE …: each program, with the Debian package that has it; PROGRAM may be the path of a file.
need() {
  local pair missing=()
  for pair in "$@"; do
    [ -e "${pair%%:*}" ] || command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
  done
  [ ${#missing[@]} = 0 ] && return
  can_install || fail_missing "${missing[@]}"
  install "${missing[@]}"
}

# fail_missing [PACKAGE …]: names these and Rust, where that is missing, too.
fail_missing() {
  local packages=("$@") names="$*" rust=()
  if ! has_rust; then
    names+="${names:+ and }Rust $wanted_rust or newer${components[*]:+ with ${components[*]}}"
    if command -v rustup >/dev/null; then
      rust=("rustup toolchain install stable${components[*]:+ --component "$(IFS=,; echo "${components[*]}")"}" "rustup default stable")
    elif has_rustup_package; then
      packages+=(rustup)
      rust=("rustup default stable")
    else
      [[ " ${packages[*]} " = *" curl "* ]] || command -v curl >/dev/null || packages+=(curl)
      rust=("curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y")
    fi
  fi
  local lines=("${packages[*]:+sudo apt-get install ${packages[*]}}" "${rust[@]}")
  has_apt || [ ${#packages[@]} = 0 ] || lines[0]="# what Debian calls ${packages[*]}"
  {
    printf '%s: missing: %s. Install that and run this again' "$0" "$names"
    ! has_apt || [ "$(id -u)" = 0 ] || printf ' (or run it as root, which does both)'
    printf ':\n'
    for line in "${lines[@]}"; do [ -z "$line" ] || printf '  %s\n' "$line"; done
  } >&2
  exit 1
}

# What building takes besides Rust. A compiler without the C library's headers builds nothing, and cargo fetches by HTTPS.
# shellcheck disable=SC2034 # its users source this file
to_build=(cc:gcc /usr/include/stdlib.h:libc6-dev /etc/ssl/certs/ca-certificates.crt:ca-certificates)

wanted_rust=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
components=()
has_rust() {
  local component
  command -v cargo >/dev/null || return 1
  for component in "${components[@]}"; do cargo "${component#rust}" --version >/dev/null 2>&1 || return 1; done
  printf '%s\n%s\n' "$wanted_rust" "$(rustc --version 2>/dev/null | cut -d' ' -f2)" | sort -CV
}

# Debian's own cargo is older than what the dependencies need. Debian 13 packages rustup, Debian 12 only knows the name.
has_rustup_package() { has_apt && apt-get install --simulate -qq rustup >/dev/null 2>&1; }

# As https://rustup.rs says, without a script between.
install_rustup() {
  need curl:curl
  say "installing rustup"
  local folder url
  folder=$(mktemp -d)
  url=https://static.rust-lang.org/rustup/dist/$(uname -m)-unknown-linux-gnu/rustup-init
  curl --silent --show-error --fail --proto =https --output "$folder/rustup-init" "$url" ||
    fail "$url can't be fetched; why is said above. Without it, install Rust $wanted_rust or newer as https://rustup.rs says."
  chmod +x "$folder/rustup-init"
  "$folder/rustup-init" -y --quiet --no-modify-path --default-toolchain none
  rm -r "$folder"
  PATH=$HOME/.cargo/bin:$PATH
}

# need_rust [COMPONENT …]: a Rust that is new enough, with these components of rustup.
need_rust() {
  components=("$@")
  has_rust && return
  if can_install && ! command -v rustup >/dev/null; then
    apt-get update -qq
    if has_rustup_package; then install rustup; else install_rustup; fi
  fi
  if command -v rustup >/dev/null; then
    say "installing Rust"
    rustup toolchain install stable --profile minimal ${1:+--component "$(IFS=,; echo "$*")"}
    # An older default toolchain stays as it is, and is not used here.
    rustup default >/dev/null 2>&1 || rustup default stable
    export RUSTUP_TOOLCHAIN=stable
  fi
  has_rust || fail_missing
}
