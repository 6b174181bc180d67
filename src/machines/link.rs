//! [`Link`]: keeps the connection to the controller of one machine.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderValue;
use tokio::time::{Instant, sleep};
use tracing::info;

use super::follow::{Position, follow};
use super::ssh::{Route, Tunnel};
use super::target::{Place, Target};
use super::{Heard, MachineNews};
use crate::config::{MachineAddress, MachineSettings};
use crate::files::{private_folder, read_secret};
use crate::locks::locked;
use crate::model::error_chain::ErrorChain;
use crate::tasks::on_blocking_thread;

/// The pause before another attempt. A machine that is back is taken up within 2 s.
const PAUSE: Duration = Duration::from_secs(1);

/// The pause after a refusal, which is one until a person does something. Some machines shut out who fails often.
const LONG_PAUSE: Duration = Duration::from_secs(30);

/// The largest token file, in bytes.
const MAX_TOKEN: u64 = 4096;

/// What ssh says of a machine that does not let us in, or is another one than is known (OpenSSH, `sshconnect.c`, `sshconnect2.c`).
const REFUSALS: [&str; 3] =
    ["Permission denied", "Host key verification failed", "Too many authentication failures"];

/// The connection to one machine.
pub(super) struct Link {
    pub(super) settings: MachineSettings,
    pub(super) news: MachineNews,
    /// Where sockets of tunnels are.
    pub(super) folder: Arc<Path>,
}

/// Why there is no connection any more.
struct Ended {
    why: String,
    /// What ssh said.
    said: Vec<String>,
}

impl From<String> for Ended {
    fn from(why: String) -> Self {
        Self { why, said: Vec::new() }
    }
}

impl Link {
    /// Connects, follows, and connects again, until it is dropped.
    pub(super) async fn run(self) {
        let mut position = Position::default();
        loop {
            let began = Instant::now();
            let Ended { why, said } = self.connect(&mut position).await;
            self.set_target(None);
            let is_refused = REFUSALS.iter().any(|refusal| why.contains(refusal));
            if self.news.hear(Heard::Unreachable(why)).await {
                let name = &self.news.name;
                said.iter().for_each(|line| info!(machine = name.as_str(), "{name}: ssh: {line}"));
            }
            let pause = if is_refused { LONG_PAUSE } else { PAUSE };
            sleep(pause.saturating_sub(began.elapsed())).await;
        }
    }

    /// One connection, until it ends.
    async fn connect(&self, position: &mut Position) -> Ended {
        let token = match self.token().await {
            Ok(token) => token,
            Err(why) => return why.into(),
        };
        match &self.settings.address {
            MachineAddress::Http { host, port, tls, prefix } => {
                let place = Place::Tcp { host: host.clone(), port: *port, tls: *tls };
                let target = Target { place, prefix: prefix.clone(), token };
                self.follow(target, position).await.into()
            }
            MachineAddress::Ssh { user, host, port, socket } => {
                let route =
                    Route { user: user.clone(), host: host.clone(), port: *port, socket: socket.clone() };
                let (own, folder) = (self.socket(), self.folder.clone());
                if let Err(error) = on_blocking_thread(move || private_folder(&folder)).await {
                    return format!("its socket can't be made: {}", ErrorChain(&error)).into();
                }
                let (mut tunnel, opened) = match Tunnel::start(&route, &own) {
                    Ok(mut tunnel) => {
                        let opened = tunnel.open(&own).await;
                        (tunnel, opened)
                    }
                    Err(why) => return why.into(),
                };
                if let Err(why) = opened {
                    return Ended { why, said: tunnel.said() };
                }
                let target = Target { place: Place::Unix(own), prefix: String::new(), token };
                let why = tokio::select! {
                    why = self.follow(target, position) => why,
                    why = tunnel.ended() => why,
                };
                Ended { why, said: tunnel.said() }
            }
        }
    }

    async fn follow(&self, target: Target, position: &mut Position) -> String {
        let target = Arc::new(target);
        self.set_target(Some(target.clone()));
        follow(&target, position, &self.news).await
    }

    fn set_target(&self, target: Option<Arc<Target>>) {
        let mut targets = locked(&self.news.machines.0.targets);
        match target {
            Some(target) => drop(targets.insert(self.news.name.clone(), target)),
            None => drop(targets.remove(&self.news.name)),
        }
    }

    fn socket(&self) -> PathBuf {
        self.folder.join(format!("{}.sock", self.news.name))
    }

    /// Read anew for each connection, so that another token counts without a reload.
    async fn token(&self) -> Result<Option<HeaderValue>, String> {
        let Some(file) = self.settings.token_file.clone() else { return Ok(None) };
        let read = on_blocking_thread(move || read_secret(&file, true, MAX_TOKEN)).await;
        let content =
            read.map_err(|error| format!("its token_file can't be used: {}", ErrorChain(&error)))?;
        let token = content.trim_ascii();
        let mut value = HeaderValue::from_bytes(&[b"Bearer ", token].concat())
            .ok()
            .filter(|_| !token.is_empty())
            .ok_or_else(|| "its token_file has no token: it is one line of text".to_owned())?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}
