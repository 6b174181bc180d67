//! [`Link`]: keeps the connection to the controller of one machine.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderValue;
use rustls::ClientConfig;
use tokio::time::{Instant, sleep};
use tracing::{debug, info};

use super::follow::{Lost, Position, follow};
use super::ssh::{Route, Tunnel, Words};
use super::ssh_words::{Meaning, meaning};
use super::target::{Place, Target};
use super::{Heard, MachineNews};
use crate::config::{MachineAddress, MachineSettings};
use crate::files::{private_folder, read_secret};
use crate::http_client::tls_config;
use crate::locks::locked;
use crate::model::error_chain::ErrorChain;
use crate::tasks::on_blocking_thread;

/// The pause before another attempt, or the least time between two. A machine that is back is taken up within 2 s.
const PAUSE: Duration = Duration::from_secs(1);

/// The pause after a refusal, which is one until a person does something. Some machines shut out who fails often.
const LONG_PAUSE: Duration = Duration::from_secs(30);

/// The largest token file, in bytes.
const MAX_TOKEN: u64 = 4096;

/// The connection to one machine.
pub(super) struct Link {
    pub(super) settings: MachineSettings,
    pub(super) news: MachineNews,
    /// Where sockets of tunnels are.
    pub(super) folder: Arc<Path>,
}

/// Why there is no connection.
struct Broken {
    why: String,
    /// What ssh said besides.
    said: Vec<String>,
    /// Whether it stays so until a person does something.
    is_refusal: bool,
}

impl From<String> for Broken {
    fn from(why: String) -> Self {
        Self { why, said: Vec::new(), is_refusal: false }
    }
}

impl From<Meaning> for Broken {
    fn from(Meaning { text, is_refusal }: Meaning) -> Self {
        // The lines themselves are among the debug messages.
        Self { why: text, said: Vec::new(), is_refusal }
    }
}

impl Broken {
    /// What ssh said last says why, or else this does.
    fn of_ssh(why: String, mut said: Vec<String>, route: &Route) -> Self {
        match (meaning(&said, route), said.pop()) {
            (Some(meaning), _) => meaning.into(),
            (None, Some(last)) => {
                let why = if last.starts_with("ssh: ") { last } else { format!("ssh: {last}") };
                Self { why, said, is_refusal: false }
            }
            (None, None) => why.into(),
        }
    }
}

impl Link {
    /// Connects, follows, and connects again, until it is dropped.
    pub(super) async fn run(self) {
        let mut position = Position::default();
        // Kept: reading what the system trusts takes longer than all else of an attempt.
        let mut trusted = None;
        loop {
            let began = Instant::now();
            let broken = match &self.settings.address {
                MachineAddress::Http { host, port, tls, prefix } => {
                    let place = Place::Tcp { host: host.clone(), port: *port, tls: *tls };
                    if *tls && trusted.is_none() {
                        trusted = on_blocking_thread(tls_config).await.ok();
                    }
                    let broken = self.follow((place, prefix, &trusted), &mut position, None).await;
                    // An operator may add what is missing.
                    trusted = trusted.filter(|_| !broken.why.contains("certificate"));
                    broken
                }
                MachineAddress::Ssh { user, host, port, socket } => {
                    let (user, host, port, socket) = (user.clone(), host.clone(), *port, socket.clone());
                    self.tunnel(&Route { user, host, port, socket }, &mut position).await
                }
            };
            let pause = self.lost(broken).await;
            sleep(pause.saturating_sub(began.elapsed())).await;
        }
    }

    /// Notes that there is no connection. Returns how long to wait.
    async fn lost(&self, Broken { why, said, is_refusal }: Broken) -> Duration {
        self.set_target(None);
        if self.news.hear(Heard::Unreachable(why)).await {
            let name = &self.news.name;
            said.iter().for_each(|line| info!(machine = name.as_str(), "{name}: ssh: {line}"));
        }
        if is_refusal { LONG_PAUSE } else { PAUSE }
    }

    /// Follows through a tunnel, until that is of no use any more.
    async fn tunnel(&self, route: &Route, position: &mut Position) -> Broken {
        let (own, folder) = (self.socket(), self.folder.clone());
        if let Err(error) = on_blocking_thread(move || private_folder(&folder)).await {
            return format!("its socket can't be made: {}", ErrorChain(&error)).into();
        }
        let mut tunnel = match Tunnel::start(route, &own) {
            Ok(tunnel) => tunnel,
            Err(why) => return why.into(),
        };
        let words = tunnel.words();
        if let Err(why) = tunnel.open(&own).await {
            return Broken::of_ssh(why, words.take(), route);
        }
        tokio::select! {
            broken = self.follow((Place::Unix(own), "", &None), position, Some((route, &words))) => broken,
            why = tunnel.ended() => Broken::of_ssh(why, words.take(), route),
        }
    }

    /// Follows the controller at a place, until there is none or nothing answers. It stays with the place as long as that may lead
    /// to it: calls go through it as well.
    async fn follow(
        &self,
        (place, prefix, tls): (Place, &str, &Option<Arc<ClientConfig>>),
        position: &mut Position,
        ssh: Option<(&Route, &Words)>,
    ) -> Broken {
        let mut kept: Option<Arc<Target>> = None;
        // Not what it said when it connected.
        ssh.iter().for_each(|(_, words)| drop(words.take()));
        loop {
            let began = Instant::now();
            let target = match kept.take() {
                Some(target) => target,
                None => match self.token().await {
                    Ok(token) => {
                        let (place, prefix, tls) = (place.clone(), prefix.to_owned(), tls.clone());
                        Arc::new(Target { place, prefix, token, tls })
                    }
                    Err(why) => return why.into(),
                },
            };
            self.set_target(Some(target.clone()));
            match follow(&target, position, &self.news).await {
                // Where its controller is restarted, the socket is there meanwhile, and answers when that is done.
                Lost::Ended(why) => {
                    debug!("{}: {why}; asking again", self.news.name);
                    kept = Some(target);
                    sleep(PAUSE.saturating_sub(began.elapsed())).await;
                }
                Lost::Failed(why) | Lost::Wrong(why) => {
                    // Calls are refused from now on, not from when the reason is known.
                    self.set_target(None);
                    let Some((route, words)) = ssh else { return why.into() };
                    let said = words.take_reason().await;
                    let broken = meaning(&said, route).map_or_else(|| why.into(), Broken::from);
                    let pause = self.lost(broken).await;
                    sleep(pause.saturating_sub(began.elapsed())).await;
                }
                Lost::Silent(why) => return why.into(),
            }
        }
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
