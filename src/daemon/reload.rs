//! Reloads the configuration at SIGHUP: all of it takes effect, or nothing.

use std::sync::Arc;

use tracing::{error, info, warn};

use super::controller::Controller;
use super::setup::{guard, implementation_rules, limits, rules, tokens};
use super::status::StatusNote;
use crate::config::{ConfigError, Loaded};
use crate::model::error_chain::ErrorChain;
use crate::service::events;
use crate::service::log::Log;
use crate::service::reload::{Outcome, Reload};

/// Reloads the configuration, reopens the log file, and reports the result to the service manager, to the program that asked
/// for it, and in the log.
pub(super) async fn reload(
    load: &impl Fn() -> Result<Loaded, ConfigError>,
    controller: &Controller,
    log: &Log,
) {
    let reload = Reload::begin();
    controller.notifier.reloading();
    // Whatever becomes of the configuration: lines would go on into a log file that was renamed.
    log.reopen();
    let (note, outcome) = match apply_new(load, controller, log).await {
        Ok(()) => {
            info!("configuration reloaded");
            (StatusNote::None, Outcome::Taken)
        }
        Err(error) => {
            error!(
                name: events::CONFIGURATION_REFUSED,
                error = %ErrorChain(error.as_ref()),
                "the new configuration is refused, the old one stays: {}", ErrorChain(error.as_ref())
            );
            (StatusNote::Refused, Outcome::Refused)
        }
    };
    controller.status.set_note(note);
    controller.notifier.ready(&controller.status.line());
    controller.notifier.flush().await;
    // Last: `wqcontroller reload` waits for it, and tells the service manager that the reload is complete.
    if let Err(error) = reload.end(outcome) {
        warn!(error = %ErrorChain(&error), "can't report the result of the reload, so `systemctl reload` will time out: {}", ErrorChain(&error));
    }
}

/// Reads the configuration and applies all of it, or nothing.
async fn apply_new(
    load: &impl Fn() -> Result<Loaded, ConfigError>,
    controller: &Controller,
    log: &Log,
) -> anyhow::Result<()> {
    let mut settings = load()?.settings;
    let in_force = controller.settings.borrow().clone();
    // Before anything reads them: parts that look at the settings later must not see what is not in force.
    let waiting = settings.keep_until_restart(&in_force);
    // Checked against the sockets that are open, since those stay whatever the new `listen` says.
    let guard = {
        let sessions = controller.guard.borrow().sessions();
        guard(&settings, tokens(&settings)?, &controller.open, sessions)?
    };
    for option in waiting {
        warn!(option, "the option {option} has changed; restart wqcontroller for it to take effect");
    }
    log.set_level(settings.log_level);
    // Fails only while the registry ends.
    controller.registry.set_rules(rules(&settings, &controller.supervisor)).await?;
    let implementations = &controller.implementations;
    implementations.registry.set_rules(implementation_rules(&settings, &implementations.supervisor)).await?;
    controller.limits.send_replace(limits(&settings));
    controller.settings.send_replace(Arc::new(settings));
    controller.guard.send_replace(Arc::new(guard));
    Ok(())
}
