//! [`Accounts`]: the client of an account together with the implementation that holds it.
//!
//! Each kind of process has a registry of its own, with the same rules: starts, ends, restarts, what a controller leaves to the
//! next one. The list of clients says which accounts there are, and the implementations follow from it: an account that is
//! registered with `implementation=NAME` has one, and one without an account is stopped. So neither a crash between the two nor
//! calls that come at the same time leave anything behind.
//!
//! A start is the implementation's first: the launch of the client waits for its port. A stop is the client's first: the
//! implementation is stopped when the account has left the list.
//!
//! - `actions`: starts, stops, new starts and new logins
//! - `forget`: removes what an account kept on disk
//! - `kept`: the same as a stream, to another machine and from one
//! - `login_code`, `code_text`: the image of a login code, and the same as text
//! - `scan_links`: links that show a login code elsewhere
//! - `plan`: what follows from the two lists
//! - `reconciler`: carries it out
//! - `usage`: what their processes use
//! - `changes`: what has changed, for those who listen

mod actions;
mod changes;
mod code_text;
mod forget;
mod kept;
mod login_code;
mod plan;
mod reconciler;
mod scan_links;
mod usage;

pub use actions::{AnewError, SpecRefusal};
pub use changes::{Change, ChangeKind, ChangeWatch, Changes, Gap, OutsideChange};
pub use forget::{ForgetError, KeptFolders};
pub use kept::{KeptError, KeptOf, KeptStream};
pub use login_code::LoginCode;
pub use reconciler::Reconciler;
pub use scan_links::{ElsewhereLink, Linked, ScanLink, ScanLinkError, ScanLinks};
pub use usage::UsageSample;

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use crate::blocking::BlockingTurns;
use crate::client_dirs::ClientDirs;
use crate::config::{LimitSettings, Settings};
use crate::environ::implementation_of;
use crate::login::Logins;
use crate::model::login::Login;
use crate::model::name::ClientName;
use crate::registry::{ClientView, Forgetting, Registry};
use crate::wire::client_list::{client_object, implementation_object, login_object};
use crate::wire::v1::account::{Account, Limits, Recorded};

/// How many accounts may wait to have their held implementation started again.
const WAKE_QUEUE: usize = 256;

/// How many calls may have a thread for what they need of the file system.
const CALLERS_JOBS: usize = 32;

/// All accounts.
#[derive(Clone, Debug)]
pub struct Accounts {
    /// The clients.
    pub clients: Registry,
    /// The implementations.
    pub implementations: Registry,
    logins: watch::Receiver<Logins>,
    forgetting: Forgetting,
    wake: mpsc::Sender<ClientName>,
    client_dirs: Arc<ClientDirs>,
    kept: KeptFolders,
    usages: usage::Usages,
    /// The file system, as far as callers make us look there.
    blocking: BlockingTurns,
    scan_links: Arc<ScanLinks>,
}

impl Accounts {
    /// Joins the two registries. The receiver is for the [`Reconciler`], which starts held implementations again.
    pub fn new(
        clients: Registry,
        implementations: Registry,
        logins: watch::Receiver<Logins>,
        forgetting: Forgetting,
        (client_dirs, kept): (Arc<ClientDirs>, KeptFolders),
        scan_links: Arc<ScanLinks>,
    ) -> (Self, mpsc::Receiver<ClientName>) {
        let (wake, woken) = mpsc::channel(WAKE_QUEUE);
        let blocking = BlockingTurns::new(CALLERS_JOBS);
        (
            Self {
                clients,
                implementations,
                logins,
                forgetting,
                wake,
                client_dirs,
                kept,
                usages: usage::Usages::default(),
                blocking,
                scan_links,
            },
            woken,
        )
    }

    /// The logins of all accounts with an implementation.
    pub fn logins(&self) -> Logins {
        self.logins.borrow().clone()
    }

    /// The login of an account with an implementation.
    pub fn login(&self, name: &ClientName) -> Option<Arc<Login>> {
        self.logins.borrow().get(name).cloned()
    }

    /// Why the list of clients or of implementations can't be written to disk, while it can't: no account can be started or stopped
    /// then.
    pub fn write_error(&self) -> Option<Arc<str>> {
        let [clients, implementations] = [self.clients.snapshot(), self.implementations.snapshot()];
        clients.write_error().or(implementations.write_error()).map(Arc::from)
    }

    /// What `/v1` says of an account.
    pub fn account(&self, view: &ClientView, settings: &Settings) -> Account {
        let account = Account { limits: limits(view, settings), ..Account::new(recorded(view)) };
        let Some(name) = implementation_of(&view.record.spec) else { return account };
        let kind = settings.implementations.get(name).map(|implementation| implementation.kind.name());
        let found = self.implementations.client(&view.record.spec.name);
        let account = account.with_implementation((name, kind), found.as_deref().map(recorded));
        match self.login(&view.record.spec.name) {
            Some(login) => account.with_login(&login, view.record.state()),
            None => account,
        }
    }

    /// The object of an account in the list of `check_client`.
    pub fn object(&self, view: &Arc<ClientView>, settings: &Settings) -> Bytes {
        // The view has its JSON ready. With an implementation it depends on two lists, so it is made at each call.
        let Some(name) = implementation_of(&view.record.spec) else { return view.json().clone() };
        let kind = settings.implementations.get(name).map(|implementation| implementation.kind.name());
        let found = self.implementations.client(&view.record.spec.name);
        let process = found.as_deref().map(|found| (&found.record, found.next_start, found.unit.as_deref()));
        let mut object = client_object(&view.record, view.next_start, view.unit.as_deref());
        if let Some(login) = self.login(&view.record.spec.name) {
            object["state"] = login.client_state(view.record.state()).as_str().into();
            object["login"] = login_object(&login);
        }
        object["implementation"] = implementation_object((name, kind), process);
        object.to_string().into()
    }
}

fn recorded(view: &ClientView) -> Recorded<'_> {
    let ClientView { record, since, next_start, unit, .. } = view;
    Recorded { record, since: *since, next_start: *next_start, unit: unit.as_deref() }
}

/// What a client may use, where it is a unit.
fn limits(view: &ClientView, settings: &Settings) -> Option<Limits> {
    let LimitSettings { memory_max, memory_high, cpu_quota, tasks_max } = settings.limits;
    view.unit.as_ref().map(|_| Limits { memory_max, memory_high, cpu_quota, tasks_max })
}
