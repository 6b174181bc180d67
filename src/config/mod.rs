//! The configuration files: fragments -> options -> [`Settings`].
//!
//! `sources` says which files are read, `fragment` turns each into items that know their line, `options`
//! picks for each option the last file that has it, `rules`, `addresses`, `auth`, `accounts`, `onebot_server`
//! and `implementations` check values, `settings` lists
//! every option with its default and its rule, and `load` runs all of it; `effective` shows what holds. Whatever is wrong is collected, so that one run
//! names everything.
//!
//! To add an option: a field and a line in `settings`, a paragraph in `packaging/wqcontroller.toml` (a test
//! insists), and a line in `changes` if it can't change while the daemon runs.
//!
//! Nothing here keeps state, looks at the environment or acts on a setting.

mod accounts;
mod addresses;
mod auth;
mod changes;
mod effective;
mod endpoint;
mod error;
mod fragment;
mod http;
mod implementations;
mod listen;
mod load;
mod log_level;
mod login;
mod machines;
mod named_tables;
mod onebot_server;
mod options;
mod rules;
mod settings;
mod socket_url;
mod sources;
mod units;

pub use auth::{Access, AuthSettings, TokenPlace, TokenSource};
pub use effective::Effective;
pub use endpoint::Endpoint;
pub use error::{ConfigError, OpenListener, Overridden, Problem};
pub use http::HttpSettings;
pub use listen::{ListenAddress, ListenError, UnixSocket};
pub use load::Loaded;
pub use log_level::LogLevel;
pub use login::{LoginSettings, NotifyFormat, NotifyTarget};
pub use machines::{MachineAddress, MachineSettings, Machines};
pub use onebot_server::OneBotServerSettings;
pub use settings::{Settings, StartSettings, SupervisorSettings};
pub use socket_url::{SocketRole, SocketUrl, host_of};
pub use units::{LimitSettings, ManagerKind, Mode, SystemdSettings, UnitKind};
