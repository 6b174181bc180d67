# Builds and installs wqcontroller. Packages call this, and it serves people without one.
#
#   make                            builds; see README.md, "Building", for the toolchain
#   make install                    installs below /usr/local, the units where systemd looks for them
#   make install DESTDIR=D PREFIX=/usr
#                                   what a package does
#   make uninstall                  with the same variables as the installation; configuration and state stay
#   make deb                        a package for Debian, and its source, in target/deb; apt build-dep ./packaging
#                                   installs what that needs

PREFIX = /usr/local
SBINDIR = $(PREFIX)/sbin
BINDIR = $(PREFIX)/bin
DATADIR = $(PREFIX)/share
MANDIR = $(DATADIR)/man
DOCDIR = $(DATADIR)/doc/wqcontroller
SYSCONFDIR = /etc
# The vendor's configuration is read from here and nowhere else.
LIBDIR = /usr/lib

CARGO ?= cargo
# `dev` builds faster what runs slower, and what was built of it for tests: the environment that packagers set would have
# C code built twice.
PROFILE ?= dist
CARGO_TARGET_DIR ?= target
VERSION = $(shell sed -n 's/^version = "\(.*\)"$$/\1/p' Cargo.toml)
RUST = $(shell sed -n 's/^rust-version = "\(.*\)"$$/\1/p' Cargo.toml)
SOURCE = target/deb/wqcontroller-$(VERSION)
BUILT = $(CARGO_TARGET_DIR)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))

# Where a library or program says that its files belong, by pkg-config; and where they are by default.
ask = $(or $(shell pkg-config --variable=$(1) $(2) 2>/dev/null),$(3))
UNITDIR := $(call ask,systemdsystemunitdir,systemd,/usr/lib/systemd/system)
SYSUSERSDIR := $(call ask,sysusersdir,systemd,/usr/lib/sysusers.d)
TMPFILESDIR := $(call ask,tmpfilesdir,systemd,/usr/lib/tmpfiles.d)
CATALOGDIR := $(call ask,catalogdir,systemd,/usr/lib/systemd/catalog)
BASHDIR := $(call ask,completionsdir,bash-completion,/usr/share/bash-completion/completions)
FISHDIR := $(call ask,completionsdir,fish,/usr/share/fish/vendor_completions.d)
ZSHDIR = /usr/share/zsh/vendor-completions
POLKITDIR = /usr/share/polkit-1/rules.d
DBUSDIR = /usr/share/dbus-1/system.d

# mode:source:target
to = $(foreach file,$(wildcard $(1)),644:$(file):$(2)/$(notdir $(file)))
FILES = \
  755:$(BUILT)/wqcontroller:$(SBINDIR)/wqcontroller \
  644:packaging/wqcontroller.toml:$(SYSCONFDIR)/wqcontroller/wqcontroller.toml \
  644:packaging/vendor.toml:$(LIBDIR)/wqcontroller/wqcontroller.toml \
  $(call to,systemd/*.service systemd/*.socket systemd/*.target systemd/*.slice,$(UNITDIR)) \
  $(call to,systemd/sysusers.d/*.conf,$(SYSUSERSDIR)) \
  $(call to,systemd/tmpfiles.d/*.conf,$(TMPFILESDIR)) \
  $(call to,systemd/*.catalog,$(CATALOGDIR)) \
  $(call to,systemd/*.rules,$(POLKITDIR)) \
  $(call to,systemd/system.d/*.conf,$(DBUSDIR)) \
  $(foreach section,1 5 7 8,$(call to,man/*.$(section),$(MANDIR)/man$(section))) \
  644:packaging/completions/wqcontroller.bash:$(BASHDIR)/wqcontroller \
  644:packaging/completions/wqcontroller.zsh:$(ZSHDIR)/_wqcontroller \
  644:packaging/completions/wqcontroller.fish:$(FISHDIR)/wqcontroller.fish \
  644:packaging/completions/wqctl.bash:$(BASHDIR)/wqctl \
  644:packaging/completions/wqctl.zsh:$(ZSHDIR)/_wqctl \
  644:packaging/completions/wqctl.fish:$(FISHDIR)/wqctl.fish \
  644:src/client/sandbox/world.toml:$(DOCDIR)/examples/world.toml \
  $(foreach file,$(shell find packaging/examples -type f),644:$(file):$(DOCDIR)/$(file:packaging/%=%))

all:
	@found=$$($(CARGO) --version | cut -d ' ' -f 2); printf '%s\n' $(RUST) "$${found:-0}" | sort -CV || { \
	  echo "Rust $(RUST) or newer is needed, here is $${found:-none}; see README.md, \"Building\"." >&2; exit 1; }
	$(if $(filter dev,$(PROFILE)),env -u CFLAGS -u SOURCE_DATE_EPOCH) $(CARGO) build --locked --profile $(PROFILE) --bin wqcontroller
	@case $(PROFILE) in dev) ;; *) ! grep -q WQCONTROLLER_TEST_ $(BUILT)/wqcontroller || { \
	  echo "$(BUILT)/wqcontroller has hooks of tests: build it without debug-assertions." >&2; exit 1; } ;; esac

install:
	@test -e $(BUILT)/wqcontroller || { echo 'There is nothing to install yet: make' >&2; exit 1; }
	set -e; for file in $(FILES); do \
	  mode=$${file%%:*} target=$(DESTDIR)$${file##*:} file=$${file#*:}; \
	  case $$target in $(DESTDIR)$(SYSCONFDIR)/*) [ ! -e $$target ] || continue ;; esac; \
	  install -D -m $$mode $${file%%:*} $$target; \
	done
	install -d $(DESTDIR)$(SYSCONFDIR)/wqcontroller/wqcontroller.toml.d
	ln -sf wqcontroller $(DESTDIR)$(SBINDIR)/wqclient
# A relative link, as a package may be unpacked below any folder.
	install -d $(DESTDIR)$(BINDIR)
	ln -sfr $(DESTDIR)$(SBINDIR)/wqcontroller $(DESTDIR)$(BINDIR)/wqctl
ifneq ($(SBINDIR),/usr/sbin)
	sed -i 's|/usr/sbin/wqcontroller|$(SBINDIR)/wqcontroller|' $(DESTDIR)$(UNITDIR)/wqcontroller.service \
	  $(DESTDIR)$(UNITDIR)/wqclient@.service $(DESTDIR)$(UNITDIR)/wqimpl@.service \
	  $(DESTDIR)$(UNITDIR)/wqmove-client@.service $(DESTDIR)$(UNITDIR)/wqmove-impl@.service
endif
ifndef DESTDIR
	@echo 'Next: systemd-sysusers && systemd-tmpfiles --create && systemctl daemon-reload && systemctl reload dbus &&'
	@echo '      systemctl enable --now wqcontroller.socket wqcontroller-unix.socket wqcontroller.service'
endif

uninstall:
	set -e; for file in $(FILES); do \
	  case $$file in *:$(SYSCONFDIR)/*) ;; *) rm -f $(DESTDIR)$${file##*:} ;; esac; \
	done
	rm -f $(DESTDIR)$(SBINDIR)/wqclient $(DESTDIR)$(BINDIR)/wqctl
	rm -rf $(DESTDIR)$(DOCDIR)/examples

# In a copy, where debian/ is at the top; the tools put beside it what they make. What cargo built stays in target.
deb:
	rm -rf target/deb
	mkdir -p $(SOURCE)
	tar --create --exclude-vcs --exclude=./target --exclude=./fuzz/target . | tar --extract --directory=$(SOURCE)
	cp -r packaging/debian $(SOURCE)/debian
	cd $(SOURCE) && CARGO_TARGET_DIR=$(abspath $(CARGO_TARGET_DIR)) dpkg-buildpackage --unsigned-source --unsigned-changes
	@ls target/deb/*.deb

.PHONY: all install uninstall deb
