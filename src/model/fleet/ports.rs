//! [`Ports`]: which port belongs to which client.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::name::ClientName;

/// The reserved ports. A port belongs to one client from its start until its process is confirmed to be gone. Only this type
/// writes the map.
#[derive(Debug, Default)]
pub(super) struct Ports(BTreeMap<u16, ClientName>);

impl Ports {
    /// Gives `port` to `name`, unless another client has it. Returns whether `name` has it now.
    pub(super) fn reserve(&mut self, port: u16, name: &ClientName) -> bool {
        self.0.entry(port).or_insert_with(|| name.clone()) == name
    }

    /// Takes `port` back from `name`. Does nothing if another client has it.
    pub(super) fn release(&mut self, port: u16, name: &ClientName) {
        if self.owner(port) == Some(name) {
            self.0.remove(&port);
        }
    }

    /// The lowest free port from `first` on, in steps of `each`, that is not one of `taken`, which other programs have. A client has the
    /// ports up to the next step, too.
    pub(super) fn next(&self, first: u16, each: u16, taken: &BTreeSet<u16>) -> Option<u16> {
        // At least 1, because `step_by` panics at 0.
        let more = each.max(1) - 1;
        let mut ports = (first..=u16::MAX - more).step_by(usize::from(more) + 1);
        // Earlier ones may be between the steps, as `first` may have changed since. The sum can't overflow: see the range.
        let is_reserved = |port: u16| self.0.range(port.saturating_sub(more)..=port + more).next().is_some();
        ports.find(|port| !is_reserved(*port) && !taken.contains(port))
    }

    /// The client that has `port`.
    pub(super) fn owner(&self, port: u16) -> Option<&ClientName> {
        self.0.get(&port)
    }

    /// Whether `name` has `port`, or may reserve it.
    pub(super) fn is_free_for(&self, port: u16, name: &ClientName) -> bool {
        self.owner(port).is_none_or(|owner| owner == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_port_stays_with_its_client_until_released() {
        let [a, b] = ["a", "b"].map(|name| ClientName::new(name).unwrap());
        let mut ports = Ports::default();
        assert!(ports.reserve(5000, &a) && ports.reserve(5000, &a));
        assert!(!ports.reserve(5000, &b), "it is another client's");
        assert!(ports.is_free_for(5000, &a) && !ports.is_free_for(5000, &b));
        ports.release(5000, &b);
        assert_eq!(ports.owner(5000), Some(&a));
        ports.release(5000, &a);
        assert_eq!(ports.owner(5000), None);
        assert!(ports.reserve(5000, &b));
    }

    #[test]
    fn next_port_skips_reserved_and_taken_ports() {
        let name = ClientName::new("a").unwrap();
        let mut ports = Ports::default();
        ports.reserve(5000, &name);
        assert_eq!(ports.next(5000, 1, &BTreeSet::new()), Some(5001));
        assert_eq!(ports.next(5000, 1, &BTreeSet::from([5001, 5002])), Some(5003));
        assert_eq!(ports.next(5000, 2, &BTreeSet::new()), Some(5002));
        assert_eq!(ports.next(u16::MAX, 1, &BTreeSet::from([u16::MAX])), None);
        assert_eq!(ports.next(u16::MAX, 1, &BTreeSet::new()), Some(u16::MAX));
        assert_eq!(ports.next(u16::MAX, 2, &BTreeSet::new()), None, "there is none after it");
        assert_eq!(ports.next(u16::MAX - 1, 2, &BTreeSet::new()), Some(u16::MAX - 1));
        assert_eq!(ports.next(4999, 2, &BTreeSet::new()), Some(5003), "5000 is between the steps");
    }
}
