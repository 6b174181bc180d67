//! `[systemd]` and `[limits]`, and the option `supervisor.mode`: whether clients are units of systemd, which ones, and what
//! they may use.

use super::fragment::{Item, Value};
use super::options::{Checked, Options};
use super::rules::{optional, whole, wrong_shown};
pub use crate::model::client::ManagerKind;

/// What clients are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Units, where the controller is a service itself and may start them; else child processes.
    #[default]
    Auto,
    /// Child processes of the controller.
    Direct,
    /// Units of systemd.
    Systemd,
}

/// Which units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnitKind {
    /// Instances of the installed `wqclient@.service`.
    #[default]
    Template,
    /// Units that the controller makes, `wqclient-ID.service`.
    Transient,
}

/// `[systemd]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemdSettings {
    /// The manager that has the units of clients.
    pub manager: ManagerKind,
    /// Which units they are.
    pub unit: UnitKind,
    /// The slice of transient units; that of the others stands in their unit file.
    pub slice: String,
}

/// `[limits]`: what each client may use, where clients are units. None: as much as there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitSettings {
    /// Bytes of memory; a client that needs more is killed.
    pub memory_max: Option<u64>,
    /// Bytes of memory; a client that needs more is slowed down.
    pub memory_high: Option<u64>,
    /// Microseconds of CPU time in each second, of all CPUs together.
    pub cpu_quota: Option<u64>,
    /// Processes and threads.
    pub tasks_max: Option<u64>,
}

impl SystemdSettings {
    pub(super) fn read(options: &mut Options<'_>) -> Self {
        Self {
            manager: options.get("systemd.manager", ManagerKind::default(), manager),
            unit: options.get("systemd.unit", UnitKind::default(), unit),
            slice: options.get("systemd.slice", "wqclient.slice".to_owned(), slice),
        }
    }
}

impl LimitSettings {
    pub(super) fn read(options: &mut Options<'_>) -> Self {
        Self {
            memory_max: options.get("limits.memory_max", None, optional(memory)),
            memory_high: options.get("limits.memory_high", None, optional(memory)),
            cpu_quota: options.get("limits.cpu_quota", None, optional(cpu_quota)),
            // Far above what a client needs, and far below what would choke a machine.
            tasks_max: options.get("limits.tasks_max", Some(512), optional(whole(1..=4_194_304))),
        }
    }
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self::read(&mut Options::new(&[]))
    }
}

/// One of several words.
pub(super) fn word<T: Copy>(item: &Item, words: &[(&str, T)]) -> Checked<T> {
    let found = match &item.value {
        Value::Text(text) => words.iter().find(|(word, _)| word == text).map(|(_, value)| *value),
        _ => None,
    };
    let all = || words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
    found.ok_or_else(|| wrong_shown(item, &format!("one of {}", all())))
}

pub(super) fn mode(item: &Item) -> Checked<Mode> {
    word(item, &[("auto", Mode::Auto), ("direct", Mode::Direct), ("systemd", Mode::Systemd)])
}

fn manager(item: &Item) -> Checked<ManagerKind> {
    word(item, &[("system", ManagerKind::System), ("user", ManagerKind::User)])
}

fn unit(item: &Item) -> Checked<UnitKind> {
    word(item, &[("template", UnitKind::Template), ("transient", UnitKind::Transient)])
}

/// The name of a slice: the characters of systemd.unit(5), without `\\` and `@`, which slices have no need of.
fn slice(item: &Item) -> Checked<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b':');
    match &item.value {
        Value::Text(text)
            // systemd allows 255 (systemd.unit(5)).
            if text.len() <= 200
                && text.strip_suffix(".slice").is_some_and(|name| !name.is_empty())
                && text.bytes().all(plain) =>
        {
            Ok(text.clone())
        }
        _ => Err(wrong_shown(item, "the name of a slice, such as \"wqclient.slice\"")),
    }
}

/// An amount of memory, as systemd writes it: K, M, G and T are powers of 1024.
fn memory(item: &Item) -> Checked<u64> {
    const SMALLEST: u64 = 1 << 20;
    let bytes = match &item.value {
        // The last character begins at `at`, so the slices can't split one of several bytes.
        Value::Text(text) => text.char_indices().last().and_then(|(at, unit)| {
            let shift = 10 * (1 + "KMGT".find(unit)?);
            let digits = text[..at].bytes().all(|byte| byte.is_ascii_digit());
            let number: u64 = digits.then(|| text[..at].parse().ok())??;
            number.checked_mul(1 << shift)
        }),
        _ => None,
    };
    bytes.filter(|bytes| *bytes >= SMALLEST).ok_or_else(|| {
        wrong_shown(item, "a whole number with K, M, G or T behind it, such as \"512M\", and at least 1M")
    })
}

/// A share of one CPU's time: more than 100 % is more than one CPU.
fn cpu_quota(item: &Item) -> Checked<u64> {
    const PERCENT: u64 = 10_000;
    let percent = match &item.value {
        Value::Text(text) => text
            .strip_suffix('%')
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|digits| digits.parse::<u64>().ok()),
        _ => None,
    };
    percent
        .filter(|percent| (1..=100_000).contains(percent))
        .map(|percent| percent * PERCENT)
        .ok_or_else(|| wrong_shown(item, "a percentage from \"1%\" to \"100000%\" of a CPU, such as \"50%\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::rules::tests::check;

    #[test]
    fn memory_and_cpu_amounts() {
        assert_eq!(check(memory, "'512M'"), Ok(512 << 20));
        assert_eq!(check(memory, "'2048K'"), Ok(2 << 20));
        assert_eq!(check(memory, "'1T'"), Ok(1 << 40));
        for bad in ["'512'", "512", "'1K'", "'M'", "'-1M'", "'+1M'", "'1.5G'", "'99999999999999T'", "'1é'"] {
            assert!(check(memory, bad).unwrap_err().contains("such as \"512M\""), "{bad}");
        }
        assert_eq!(check(cpu_quota, "'50%'"), Ok(500_000));
        for bad in ["'0%'", "50", "'50'", "'1.5%'", "'+1%'", "'100001%'", "'%'"] {
            assert!(check(cpu_quota, bad).unwrap_err().contains("must be a percentage"), "{bad}");
        }
    }

    #[test]
    fn unit_words_and_slice_names() {
        assert_eq!(check(mode, "'systemd'"), Ok(Mode::Systemd));
        assert_eq!(check(mode, "'x'"), Err("1: is \"x\", must be one of auto, direct, systemd".into()));
        assert_eq!(check(slice, "'a-b.slice'").as_deref(), Ok("a-b.slice"));
        for bad in ["'a'", "'.slice'", "'a/b.slice'", "'a b.slice'", "1"] {
            assert!(check(slice, bad).unwrap_err().contains("the name of a slice"), "{bad}");
        }
    }
}
