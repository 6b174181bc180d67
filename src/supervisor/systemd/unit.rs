//! Names and properties of clients' units. No I/O.

use std::path::Path;
use std::sync::Arc;

use rustix::process::Signal;
use zbus::Variant;

use super::manager::Properties;
use crate::config::{LimitSettings, ManagerKind, SystemdSettings, UnitKind};
use crate::model::client::STOP_ASKED;
use crate::model::name::{ClientName, UnitId};
use crate::peers::{ACCOUNT_USER, IMPLEMENTATION_USER};
use crate::supervisor::implementation::SUBCOMMAND;

/// What the processes of units are. Each has unit names, launch files and users of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitRole {
    /// Clients.
    Client,
    /// Implementations.
    Implementation,
}

impl UnitRole {
    /// What the names of the units begin with.
    pub(super) const fn prefix(self) -> &'static str {
        match self {
            Self::Client => "wqclient",
            Self::Implementation => "wqimpl",
        }
    }

    /// The signal with which systemd stops the units.
    pub(super) const fn stop_signal(self) -> &'static str {
        match self {
            Self::Client => "SIGTERM",
            Self::Implementation => "SIGINT",
        }
    }

    /// Which of its processes may tell systemd something: the relay of an implementation tells its last line.
    const fn notify_access(self) -> &'static str {
        match self {
            Self::Client => "main",
            Self::Implementation => "all",
        }
    }

    /// The longest time from the end of the main process, or from a stop, until systemd kills what is left, in microseconds.
    const fn stop_usec(self) -> u64 {
        match self {
            // The default of systemd is another one on some distributions.
            Self::Client => 90_000_000,
            // Programs of others leave processes behind, and no new start is possible before those are gone.
            Self::Implementation => 15_000_000,
        }
    }

    /// The folder of the launch files, in that of the controller.
    pub(super) const fn launches(self) -> &'static str {
        match self {
            Self::Client => "launch",
            Self::Implementation => "launch-implementation",
        }
    }

    /// What the names of the units begin with that carry what the units keep.
    pub(super) const fn mover(self) -> &'static str {
        match self {
            Self::Client => "wqmove-client",
            Self::Implementation => "wqmove-impl",
        }
    }

    /// The folder of the sockets of those, in that of the controller.
    pub(super) const fn moves(self) -> &'static str {
        match self {
            Self::Client => "move-client",
            Self::Implementation => "move-impl",
        }
    }

    /// What the names of the users begin with.
    const fn user(self) -> &'static str {
        match self {
            Self::Client => ACCOUNT_USER,
            Self::Implementation => IMPLEMENTATION_USER,
        }
    }

    /// The patterns that match all of the units.
    pub(super) fn patterns(self) -> [String; 2] {
        ["@", "-"].map(|sign| format!("{}{sign}*.service", self.prefix()))
    }
}

/// The properties for `[limits]`.
const LIMITS: [&str; 4] = ["MemoryMax", "MemoryHigh", "CPUQuotaPerSecUSec", "TasksMax"];

/// A recursive bind mount (mount(2)), as `BindPaths=` of a unit file makes by default.
const MS_REC: u64 = 0x4000;

/// The name of the unit of an account.
pub(super) fn name_of(role: UnitRole, kind: UnitKind, id: &str) -> Arc<str> {
    let sign = match kind {
        UnitKind::Template => '@',
        UnitKind::Transient => '-',
    };
    format!("{}{sign}{id}.service", role.prefix()).into()
}

/// Whether the journal entries of the client with this ID get its name only through a relay. `LogExtraFields=` of a template unit
/// has the ID, which may be a hash, and the manager of a user adds no fields (systemd.exec(5)).
pub(super) fn needs_relay(settings: &SystemdSettings, id: &UnitId) -> bool {
    settings.manager == ManagerKind::User || settings.unit == UnitKind::Template && id.is_hashed()
}

/// The ID of the account whose unit has this name.
pub(super) fn id_of(role: UnitRole, unit: &str) -> Option<UnitId> {
    let id = unit.strip_suffix(".service")?.strip_prefix(role.prefix())?.strip_prefix(['@', '-'])?;
    UnitId::try_from(id.to_owned()).ok()
}

/// Which kind of unit of a client has this name.
pub fn kind_of(unit: &str) -> Option<UnitKind> {
    let rest = unit.strip_suffix(".service")?.strip_prefix("wqclient")?;
    match rest.as_bytes().first()? {
        b'@' => Some(UnitKind::Template),
        b'-' => Some(UnitKind::Transient),
        _ => None,
    }
}

/// The properties for `[limits]`. All of them at each start, because what was set once stays set.
pub(super) fn limits(limits: LimitSettings) -> Properties<'static> {
    // The largest number is systemd's `infinity`. A limit that is left out would keep its earlier value.
    let amount = |limit: Option<u64>| Variant::from(limit.unwrap_or(u64::MAX));
    let all = [limits.memory_max, limits.memory_high, limits.cpu_quota, limits.tasks_max];
    let limits = LIMITS.into_iter().zip(all.map(amount));
    #[cfg(debug_assertions)]
    let limits = limits.chain(unknown_if_told());
    limits.collect()
}

/// A property that no systemd knows, for the test of such properties. Not in a release.
#[cfg(debug_assertions)]
fn unknown_if_told() -> Option<(&'static str, Variant<'static>)> {
    std::env::var_os("WQCONTROLLER_TEST_PROPERTY").map(|_| ("NoSuchLimit", Variant::from(1u64)))
}

/// The parts of a transient unit.
pub(super) struct Transient<'a> {
    pub role: UnitRole,
    pub id: &'a UnitId,
    pub name: &'a ClientName,
    pub manager: ManagerKind,
    pub slice: &'a str,
    /// The program that is the launcher.
    pub executable: &'a Path,
    /// The launch file.
    pub launch_file: &'a Path,
    /// The only file of the configuration, where the controller has one.
    pub config: Option<&'a Path>,
}

impl Transient<'_> {
    /// The properties of the unit: those of `systemd/wqclient@.service` or `systemd/wqimpl@.service`, as far as the manager
    /// supports them.
    pub fn properties(&self, limit: LimitSettings) -> Properties<'static> {
        let (id, launcher) = (self.id.as_str(), self.executable.to_string_lossy().into_owned());
        let command = |arguments: &[&str]| {
            let words = std::iter::once(&*launcher).chain(arguments.iter().copied());
            Variant::from(vec![(launcher.clone(), words.map(str::to_owned).collect::<Vec<_>>(), false)])
        };
        let folder = format!("{}/{id}", self.role.prefix());
        let description = match self.role {
            UnitRole::Client => format!("Chat account {}", self.name),
            UnitRole::Implementation => format!("Implementation of chat account {}", self.name),
        };
        let mut all = vec![
            ("Description", text(&description)),
            ("After", list(&["network.target"])),
            // The controller alone decides about restarts.
            ("StartLimitIntervalUSec", Variant::from(0u64)),
            // The start job ends only once the launcher is executed, so a launcher that is missing is a failed start
            // (systemd.service(5)).
            ("Type", text("exec")),
            ("NotifyAccess", text(self.role.notify_access())),
            ("Restart", text("no")),
            ("TimeoutStopUSec", Variant::from(self.role.stop_usec())),
            ("StandardInputFile", text(&self.launch_file.to_string_lossy())),
            ("RuntimeDirectory", list(&[&folder])),
            ("RuntimeDirectoryMode", Variant::from(0o750u32)),
            ("StateDirectory", list(&[&folder])),
            ("StateDirectoryMode", Variant::from(0o700u32)),
            ("SyslogIdentifier", text(self.role.prefix())),
            ("LogExtraFields", Variant::from(self.log_fields())),
            // Limits each unit alone, so that one that prints without end does not drive out the lines of the others.
            ("LogRateLimitIntervalUSec", Variant::from(10_000_000u64)),
            ("LogRateLimitBurst", Variant::from(1000u32)),
            ("Slice", text(self.slice)),
            ("NoNewPrivileges", Variant::from(true)),
            ("KeyringMode", text("private")),
            ("LockPersonality", Variant::from(true)),
            ("RestrictRealtime", Variant::from(true)),
            ("RestrictSUIDSGID", Variant::from(true)),
            // The mask of allowed namespaces: none.
            ("RestrictNamespaces", Variant::from(0u64)),
            ("RestrictAddressFamilies", allowed(&["AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK"])),
            ("SystemCallFilter", allowed(&["@system-service"])),
            // EPERM, as in the unit file. Without it a filtered call would kill the process.
            ("SystemCallErrorNumber", Variant::from(1i32)),
            ("SystemCallArchitectures", list(&["native"])),
        ];
        match self.role {
            UnitRole::Client => all.extend([
                ("ExecStart", command(&["launch", id])),
                ("ExecReload", command(&["launch", "--reload", id])),
                // It was stopped through its own API, which is no failure.
                ("SuccessExitStatus", Variant::from((vec![i32::from(STOP_ASKED)], Vec::<i32>::new()))),
                ("UMask", Variant::from(0o027u32)),
            ]),
            UnitRole::Implementation => all.extend([
                ("ExecStart", self.implementation(&command, id)),
                // At SIGTERM some hang, and others leave processes behind.
                ("KillSignal", Variant::from(Signal::INT.as_raw())),
                // Only its group can use the socket that it makes in its runtime directory.
                ("UMask", Variant::from(0o007u32)),
            ]),
        }
        if self.manager == ManagerKind::System {
            all.extend(self.confinement(&folder));
        }
        all.extend(limits(limit));
        all
    }

    /// The command of an implementation's launcher, with the configuration that the controller has.
    fn implementation(&self, command: &dyn Fn(&[&str]) -> Variant<'static>, id: &str) -> Variant<'static> {
        match self.config.map(Path::to_string_lossy) {
            Some(config) => command(&["--config", &config, SUBCOMMAND, id]),
            None => command(&[SUBCOMMAND, id]),
        }
    }

    /// The journal can be searched for the account by name and by ID.
    fn log_fields(&self) -> Vec<Vec<u8>> {
        let mut fields = vec![format!("WQ_CLIENT={}", self.id).into_bytes()];
        // A journal entry may have a field several times.
        if self.id.as_str() != self.name.as_str() {
            fields.push(format!("WQ_CLIENT={}", self.name).into_bytes());
        }
        fields
    }

    /// What the unit sees nothing of.
    fn inaccessible(&self) -> &'static [&'static str] {
        // In the first one are the launch files of all accounts, with their secrets. In the second one clients of the sandbox meet.
        match self.role {
            UnitRole::Client => &["-/run/wqcontroller"],
            UnitRole::Implementation => &["-/run/wqcontroller", "-/run/wqclient-world"],
        }
    }

    /// The properties that only the machine's manager supports.
    fn confinement(&self, folder: &str) -> Properties<'static> {
        let on = |name| (name, Variant::from(true));
        let hidden = |path: &str| (path.to_owned(), "ro".to_owned());
        // Source, target, whether the source may be missing, and mount flags.
        let shown = |path: String| (path.clone(), path, false, MS_REC);
        vec![
            ("PartOf", list(&["wqclients.target"])),
            on("DynamicUser"),
            ("User", text(&format!("{}{}", self.role.user(), self.id))),
            ("Group", text("wqclients")),
            (
                // Hides the folders of all accounts. `BindPaths` shows the unit its own again.
                "TemporaryFileSystem",
                Variant::from(
                    [UnitRole::Client, UnitRole::Implementation]
                        .map(UnitRole::prefix)
                        .into_iter()
                        .flat_map(|of| {
                            [hidden(&format!("/run/{of}")), hidden(&format!("/var/lib/private/{of}"))]
                        })
                        .collect::<Vec<_>>(),
                ),
            ),
            (
                "BindPaths",
                Variant::from(match self.role {
                    UnitRole::Client => {
                        vec![shown(format!("/run/{folder}")), shown("/run/wqclient-world".to_owned())]
                    }
                    UnitRole::Implementation => vec![shown(format!("/run/{folder}"))],
                }),
            ),
            ("InaccessiblePaths", list(self.inaccessible())),
            ("CapabilityBoundingSet", Variant::from(0u64)),
            ("ProtectSystem", text("strict")),
            ("ProtectHome", text("yes")),
            ("ProtectProc", text("invisible")),
            on("PrivateDevices"),
            on("ProtectClock"),
            on("ProtectControlGroups"),
            on("ProtectHostname"),
            on("ProtectKernelLogs"),
            on("ProtectKernelModules"),
            on("ProtectKernelTunables"),
        ]
    }
}

fn text(text: &str) -> Variant<'static> {
    Variant::from(text.to_owned())
}

fn list(items: &[&str]) -> Variant<'static> {
    Variant::from(items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>())
}

/// An allow-list.
fn allowed(items: &[&str]) -> Variant<'static> {
    Variant::from((true, items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests;
