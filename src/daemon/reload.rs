//! What is done at SIGHUP: the configuration is read again, and all of it taken or nothing.

use std::sync::Arc;

use tracing::{error, info, warn};

use super::status::Remark;
use super::{Controller, guard, rules, tokens};
use crate::config::{ConfigError, Loaded};
use crate::model::chain::Chain;
use crate::service::log::Log;
use crate::service::reload::{Outcome, Reload};
use crate::service::{events, notify};

/// Reads the configuration again and says what came of it: to the service manager, to who asked for it, and in the log,
/// whose file is opened anew.
pub(super) async fn reload(
    load: &impl Fn() -> Result<Loaded, ConfigError>,
    controller: &Controller,
    log: &Log,
) {
    let reload = Reload::begin();
    notify::reloading().await;
    log.reopen();
    let (remark, outcome) = match take_anew(load, controller, log).await {
        Ok(()) => {
            info!("the configuration was loaded anew");
            (Remark::None, Outcome::Taken)
        }
        Err(error) => {
            error!(
                name: events::CONFIGURATION_REFUSED,
                error = %Chain(error.as_ref()), "the new configuration is refused, the old one stays"
            );
            (Remark::Refused, Outcome::Refused)
        }
    };
    controller.status.remark(remark);
    notify::ready(controller.status.line()).await;
    // Last: who waits for this tells the service manager that all is done.
    if let Err(error) = reload.end(outcome) {
        warn!(error = %Chain(&error), "it can't be told what came of the reload, so `systemctl reload` waits in vain");
    }
}

/// Reads the configuration again, and takes all of it or nothing.
async fn take_anew(
    load: &impl Fn() -> Result<Loaded, ConfigError>,
    controller: &Controller,
    log: &Log,
) -> anyhow::Result<()> {
    let settings = load()?.settings;
    let guard = guard(&settings, tokens(&settings)?, &controller.open)?;
    let old = controller.settings.borrow().clone();
    for option in old.needs_restart(&settings) {
        warn!(option, "this option has changed, which takes effect when wqcontroller is started anew");
    }
    log.set_level(settings.log_level);
    // Fails only when the registry is at its end.
    controller.registry.set_rules(rules(&settings, &controller.supervisor)).await?;
    controller.settings.send_replace(Arc::new(settings));
    controller.guard.send_replace(Arc::new(guard));
    Ok(())
}
