//! Tells a SIGHUP that asks for a reload from one that says the terminal is gone.

use signal_hook::consts::SIGHUP;

/// Whether the controller was started at a terminal. Only then can SIGHUP mean that it hung up.
pub(super) struct Terminal(bool);

impl Terminal {
    /// To be called before SIGHUP is handled.
    pub(super) fn now() -> Self {
        Self(Self::is_there() && !Self::started_by_nohup())
    }

    /// After a hang-up the kernel has taken the terminal away. A SIGHUP from a process leaves it.
    pub(super) fn hung_up(&self) -> bool {
        self.0 && !Self::is_there()
    }

    fn is_there() -> bool {
        // Fails with ENXIO for a process without a controlling terminal (tty(4)).
        std::fs::File::open("/dev/tty").is_ok()
    }

    /// nohup(1) ignores SIGHUP, which its program inherits.
    fn started_by_nohup() -> bool {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        // A mask in hexadecimal, the lowest bit for signal 1 (proc_pid_status(5)). sigaction(2) would need `unsafe`.
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        ignored
            .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
            .is_some_and(|mask| mask & (1 << (SIGHUP - 1)) != 0)
    }
}
