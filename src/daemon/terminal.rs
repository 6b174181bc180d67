//! Whose SIGHUP it is.

use signal_hook::consts::SIGHUP;

/// Whether there was a terminal when we started, whose end would be ours: only then can SIGHUP mean that it hung up.
pub(super) struct Terminal(bool);

impl Terminal {
    /// To be called before anybody waits for SIGHUP.
    pub(super) fn now() -> Self {
        Self(Self::is_there() && !Self::started_by_nohup())
    }

    /// After a hang-up the kernel has taken the terminal from us; a SIGHUP sent by somebody leaves it.
    pub(super) fn hung_up(&self) -> bool {
        self.0 && !Self::is_there()
    }

    fn is_there() -> bool {
        std::fs::File::open("/dev/tty").is_ok()
    }

    /// nohup(1) has its program ignore SIGHUP, which is inherited.
    fn started_by_nohup() -> bool {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        ignored
            .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
            .is_some_and(|mask| mask & (1 << (SIGHUP - 1)) != 0)
    }
}
