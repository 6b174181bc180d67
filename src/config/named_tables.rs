//! Tables of tables: `[option.NAME]`. They are merged by name and key, so that a file that adds a table takes nothing away from
//! those of another file.

use std::collections::BTreeMap;

use super::fragment::{Fault, Item, Table, Value};
use super::options::{Checked, Options, Origin};
use super::rules::{fault, optional, quoted, wrong, wrong_shown};
use crate::backends::TableKey;

/// What a table of tables may say.
#[derive(Clone, Copy)]
pub(super) struct NamedTables {
    /// The option.
    pub(super) option: &'static str,
    /// What each of its tables describes: `account`.
    pub(super) noun: &'static str,
    /// The keys of each of them.
    pub(super) keys: &'static [TableKey],
    /// Checks a name.
    pub(super) check_name: fn(&str) -> Result<(), String>,
    /// The list of tables with the name under this key inside, which is another form of it.
    pub(super) list: Option<&'static str>,
}

/// What one file, or several of them together, say about one table.
pub(super) struct Entry {
    /// Where the first file names it.
    pub(super) origin: Origin,
    /// The keys, each with its place. None is a value that the empty string took back.
    keys: BTreeMap<&'static str, (Origin, Option<String>)>,
}

impl Entry {
    /// Takes the keys of a later file. Returns those that both have, with their places.
    fn merge(&mut self, later: Self) -> Vec<(&'static str, Origin, Origin)> {
        let mut replaced = Vec::new();
        for (key, value) in later.keys {
            let origin = value.0;
            if let Some((earlier, _)) = self.keys.insert(key, value) {
                replaced.push((key, earlier, origin));
            }
        }
        replaced
    }

    /// The places of the keys, and their values.
    pub(super) fn split(self) -> (BTreeMap<&'static str, Origin>, Vec<(&'static str, String)>) {
        let origins = self.keys.iter().map(|(key, (origin, _))| (*key, *origin)).collect();
        let values = self.keys.into_iter().filter_map(|(key, (_, value))| Some((key, value?)));
        (origins, values.collect())
    }
}

impl NamedTables {
    /// The tables of every file, merged.
    pub(super) fn read(&self, options: &mut Options<'_>) -> BTreeMap<String, Entry> {
        let option = self.option;
        let mut merged: BTreeMap<String, Entry> = BTreeMap::new();
        let mut files = Vec::new();
        for (origin, entries) in options.each(option, |origin, item| self.entries(origin, item)) {
            if entries.is_none() {
                merged.clear();
                // Each of them, as every earlier file may have had tables that are gone now.
                files.drain(..).for_each(|earlier| options.overrides(option, earlier, origin));
            }
            files.push(origin);
            for (name, entry) in entries.unwrap_or_default() {
                let Some(known) = merged.get_mut(&name) else {
                    merged.insert(name, entry);
                    continue;
                };
                for (key, earlier, later) in known.merge(entry) {
                    options.overrides(&format!("{option}.{name:?}.{key}"), earlier, later);
                }
            }
        }
        merged
    }

    /// What it must be.
    fn form(&self) -> String {
        let keys = self.key_names("and");
        let Self { option, noun, .. } = self;
        format!("a table for each {noun}, such as [{option}.\"NAME\"] with {keys} as they are needed")
    }

    /// The names of its keys: `a, b and c`.
    fn key_names(&self, conjunction: &str) -> String {
        let names: Vec<&str> = self.keys.iter().map(|key| key.name).collect();
        match names.split_last() {
            Some((last, [])) => (*last).to_owned(),
            Some((last, others)) => format!("{} {conjunction} {last}", others.join(", ")),
            None => "no keys".to_owned(),
        }
    }

    /// The tables of one file, by name or, in the form of a list, with the name inside. None is the empty list, which takes
    /// back what earlier files say. (An empty table does not: its keys may just be commented out.)
    fn entries(&self, origin: Origin, item: &Item) -> Checked<Option<Vec<(String, Entry)>>> {
        let tables = match (&item.value, self.list) {
            // Before other lists: it clears, where they add.
            (Value::List(entries), Some(_)) if entries.is_empty() => return Ok(None),
            (Value::List(entries), Some(key)) => return self.listed(key, origin, entries).map(Some),
            (Value::Table(tables), _) => tables,
            _ => return Err(wrong(item, &self.form())),
        };
        let mut entries = Vec::new();
        let mut faults = Vec::new();
        for (name, item) in tables {
            let found = match ((self.check_name)(name), &item.value) {
                (Err(why), _) => Err(fault(item, why)),
                (Ok(()), Value::Table(keys)) => self.entry(origin.with_line(item.line), name, keys),
                (Ok(()), _) => Err(wrong(item, &format!("a table with {}", self.key_names("or")))),
            };
            match found {
                Ok(entry) => entries.push((name.clone(), entry)),
                Err(of_entry) => faults.extend(of_entry.into_iter().map(|fault| Fault {
                    line: fault.line,
                    message: format!("of {} {}", quoted(name), fault.message),
                })),
            }
        }
        if faults.is_empty() { Ok(Some(entries)) } else { Err(faults) }
    }

    /// The tables of a list, each with its name under `key`.
    fn listed(&self, key: &'static str, origin: Origin, list: &[Item]) -> Checked<Vec<(String, Entry)>> {
        let mut entries: Vec<(String, Entry)> = Vec::new();
        let mut faults = Vec::new();
        for (at, listed) in (1..).zip(list) {
            let found = self.listed_entry(key, origin, listed).and_then(|(name, entry)| {
                match entries.iter().any(|(earlier, _)| *earlier == name) {
                    true => {
                        let name = quoted(&name);
                        Err(fault(listed, format!("repeats the {key} {name}, must have each {key} once")))
                    }
                    false => Ok((name, entry)),
                }
            });
            match found {
                Ok(entry) => entries.push(entry),
                Err(of_entry) => faults.extend(of_entry.into_iter().map(|fault| Fault {
                    line: fault.line,
                    message: format!("entry {at} {}", fault.message),
                })),
            }
        }
        if faults.is_empty() { Ok(entries) } else { Err(faults) }
    }

    fn listed_entry(&self, key: &'static str, origin: Origin, item: &Item) -> Checked<(String, Entry)> {
        let Value::Table(keys) = &item.value else { return Err(wrong(item, &self.form())) };
        let Some(name) = keys.get(key) else {
            return Err(fault(item, format!("has no {key}, must be {}", self.form())));
        };
        let name = self.listed_name(key, name)?;
        let entry = self.entry(origin.with_line(item.line), &name, keys)?;
        Ok((name, entry))
    }

    fn listed_name(&self, key: &str, item: &Item) -> Checked<String> {
        match &item.value {
            Value::Text(text) if (self.check_name)(text).is_ok() => Ok(text.clone()),
            _ => Err(wrong_shown(item, &format!("the name of a {key}"))),
        }
    }

    fn entry(&self, origin: Origin, name: &str, keys: &Table) -> Checked<Entry> {
        // The name inside is allowed in both forms, so that a table can be moved out of a list unchanged.
        let is_known = |key: &str| self.list == Some(key) || self.keys.iter().any(|known| known.name == key);
        if let Some((key, item)) = keys.iter().find(|(key, _)| !is_known(key)) {
            return Err(fault(item, format!("has the unknown key {}, must be {}", quoted(key), self.form())));
        }
        if let Some((key, item)) = self.list.and_then(|key| Some((key, keys.get(key)?)))
            && self.listed_name(key, item)? != name
        {
            return Err(fault(item, format!("has another name as its {key}")));
        }
        let mut entry = Entry { origin, keys: BTreeMap::new() };
        for key in self.keys {
            if let Some(item) = keys.get(key.name) {
                let value = optional(|item| value(key, item))(item)?;
                entry.keys.insert(key.name, (origin.with_line(item.line), value));
            }
        }
        Ok(entry)
    }
}

fn value(key: &TableKey, item: &Item) -> Checked<String> {
    match &item.value {
        Value::Text(text) if (key.is_valid)(text) => Ok(text.clone()),
        _ if key.is_shown => Err(wrong_shown(item, key.allowed)),
        _ => Err(wrong(item, key.allowed)),
    }
}
