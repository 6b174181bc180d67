//! [`Network`]: a network that machines of one test are plugged into, gone with the test. `machine.sh` makes it.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};

use crate::machine::{Machine, missing, not_run, script};

/// A network. Dropped it is gone, and so it is when this program is killed.
pub struct Network {
    holder: Child,
    number: String,
}

impl Network {
    /// Makes one. Where that can't be done, for a reason that is not the project's, that is said and the test has to end; with
    /// `CI=true` it fails.
    pub fn new() -> Option<Self> {
        if let Some(why) = missing() {
            not_run(why);
            return None;
        }
        let mut command = script();
        command.arg("network").process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let number = line.trim_end().strip_prefix("up ").unwrap_or_default().to_owned();
        let network = Self { holder, number };
        if network.number.is_empty() {
            not_run("no bridge can be made here, which needs iproute2 and a kernel that has them");
            return None;
        }
        Some(network)
    }

    /// Plugs a machine in, with the address 10.4.0.`host`. After a reboot it has to be plugged in again.
    pub fn plug(&self, machine: &Machine, host: u8) {
        self.order("plug", machine, &format!("10.4.0.{host}/24"));
    }

    /// Pulls the cable of a machine, which keeps its address, or puts it back.
    pub fn cable(&self, machine: &Machine, is_in: bool) {
        self.order("cable", machine, if is_in { "up" } else { "down" });
    }

    fn order(&self, order: &str, machine: &Machine, argument: &str) {
        let mut command = script();
        command.args([order, &machine.name, &self.number, argument]).stdin(Stdio::null());
        assert!(command.status().unwrap().success(), "{command:?}");
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}
