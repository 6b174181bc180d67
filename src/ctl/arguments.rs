//! The command line as it is given.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Shows accounts, starts and stops them. Without a command it lists them.
#[derive(Debug, Parser)]
#[command(name = "wqctl", version)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

/// The options of every command.
#[derive(Debug, Args)]
pub(super) struct Global {
    /// The controller: http://HOST:PORT or unix:/PATH.
    #[arg(long, global = true, value_name = "URL")]
    pub(super) url: Option<String>,
    /// Read the token from this file.
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) token_file: Option<PathBuf>,
    /// Print JSON.
    #[arg(long, global = true)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List accounts.
    List(List),
    /// Show all that is known of an account.
    Show(Account),
    /// Start an account, and wait until it runs.
    Start(Start),
    /// Stop accounts, and keep them in the list.
    Stop(Accounts),
    /// Start the processes of accounts anew.
    Restart(Accounts),
    /// Log accounts with an implementation in anew.
    Relogin(Relogin),
    /// Stop accounts and take them out of the list.
    Remove(Accounts),
    /// Delete all that stopped accounts have on disk.
    Forget(Forget),
    /// Take an account to another machine, with all that it keeps.
    Move(Move),
    /// Show the login code of an account, until it is logged in.
    Qr(Account),
    /// Show what an account's programs printed.
    Logs(Logs),
    /// Show what changes, as it changes.
    Events,
    /// Say why an account is as it is, and what comes next.
    Explain(Account),
    /// Show all accounts with what they use, again and again.
    Top(Top),
    /// Play scenes to a bot, and say whether it answers as expected.
    Scene(Scene),
    /// Run a controller and a sandbox to try a bot in.
    Sandbox(Sandbox),
    /// Check the configuration.
    Check(Configuration),
    /// Show every option, and where its value comes from.
    Effective(Configuration),
    /// Print what a report of a bug should have, without secrets.
    Bugreport(Configuration),
}

#[derive(Debug, Default, Args)]
pub(super) struct List {
    /// Only accounts with this in their names.
    pub(super) part: Option<String>,
    /// Only accounts in this state.
    #[arg(long)]
    pub(super) state: Option<String>,
    /// Only accounts that wait for a person.
    #[arg(long)]
    pub(super) needs_person: bool,
    /// Only accounts of this machine.
    #[arg(long, value_name = "NAME")]
    pub(super) machine: Option<String>,
    /// Print names alone, one a line.
    #[arg(long)]
    pub(super) names: bool,
    /// Cut nothing off.
    #[arg(long)]
    pub(super) wide: bool,
}

#[derive(Debug, Args)]
pub(super) struct Account {
    /// The account.
    pub(super) name: String,
}

#[derive(Debug, Args)]
pub(super) struct Accounts {
    /// The accounts.
    #[arg(required = true, value_name = "NAME")]
    pub(super) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Start {
    /// The account.
    pub(super) name: String,
    /// All of its start parameters; without any it keeps its own.
    #[arg(value_name = "KEY=VALUE")]
    pub(super) parameters: Vec<String>,
    /// Read more of them here, such as a password.
    #[arg(long, value_name = "FILE")]
    pub(super) parameters_file: Option<PathBuf>,
    /// The machine where it starts if it is new.
    #[arg(long, value_name = "NAME")]
    pub(super) machine: Option<String>,
    /// Return as soon as its process runs.
    #[arg(long)]
    pub(super) no_wait: bool,
    /// How long to wait, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub(super) timeout: u64,
}

#[derive(Debug, Args)]
pub(super) struct Relogin {
    #[command(flatten)]
    pub(super) accounts: Accounts,
    /// Remove the saved login first, so that a code has to be scanned.
    #[arg(long)]
    pub(super) forget: bool,
}

#[derive(Debug, Args)]
pub(super) struct Move {
    /// The account.
    pub(super) name: String,
    /// The machine, as the configuration names it; local is the one that is asked.
    pub(super) machine: String,
}

#[derive(Debug, Args)]
pub(super) struct Forget {
    #[command(flatten)]
    pub(super) accounts: Accounts,
    /// Do not ask.
    #[arg(long)]
    pub(super) yes: bool,
}

#[derive(Debug, Args)]
pub(super) struct Logs {
    /// The account.
    pub(super) name: String,
    /// Go on with what comes.
    #[arg(short, long)]
    pub(super) follow: bool,
    /// How many lines of what was.
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 100)]
    pub(super) lines: u32,
}

#[derive(Debug, Args)]
pub(super) struct Top {
    /// Seconds between two looks.
    #[arg(short = 'd', long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(super) delay: u64,
}

#[derive(Debug, Args)]
pub(super) struct Scene {
    /// The file of scenes.
    pub(super) file: PathBuf,
    /// The account that plays the bot.
    #[arg(long, value_name = "NAME")]
    pub(super) account: Option<String>,
    /// Write the outcome to this file, as JUnit's XML.
    #[arg(long, value_name = "FILE")]
    pub(super) junit: Option<PathBuf>,
    /// How long an answer may take where the scene does not say, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(super) timeout: u64,
    /// How long a bot that is not connected yet is waited for, and a controller that does not run yet, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=3600))]
    pub(super) wait: u64,
}

#[derive(Debug, Args)]
pub(super) struct Sandbox {
    /// The port to listen on, on 127.0.0.1.
    #[arg(long, value_name = "PORT", default_value_t = 4000, value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) port: u16,
    /// Keep the account's files in this folder, instead of a temporary one.
    #[arg(long, value_name = "FOLDER")]
    pub(super) folder: Option<PathBuf>,
    /// Connect to a bot that waits for a WebSocket here; may be given several times.
    #[arg(long, value_name = "URL")]
    pub(super) connect: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Configuration {
    /// Read this file alone.
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
}
