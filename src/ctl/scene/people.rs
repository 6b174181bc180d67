//! [`People`]: names of the world's people and groups.

use serde_json::Value;

use super::raw::Who;

/// The people and groups of a world, as `/sandbox/world` tells them.
pub(in crate::ctl) struct People(Value);

impl People {
    pub(in crate::ctl) fn new(world: Value) -> Self {
        Self(world)
    }

    /// The uid of a person. A uid need not be known: whoever asks to be a friend is not.
    ///
    /// # Errors
    /// Nobody, or not one person alone, has the name.
    pub(in crate::ctl) fn person(&self, who: &Who) -> Result<String, String> {
        self.find("people", "person", who)
    }

    /// The uid of a group.
    ///
    /// # Errors
    /// No group, or not one alone, has the name.
    pub(in crate::ctl) fn group(&self, who: &Who) -> Result<String, String> {
        self.find("groups", "group", who)
    }

    fn find(&self, list: &str, kind: &str, who: &Who) -> Result<String, String> {
        let name = match who {
            Who::Uid(uid) => return Ok(uid.to_string()),
            Who::Name(name) if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit()) => {
                return Ok(name.clone());
            }
            Who::Name(name) => name,
        };
        let known = self.0[list].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut found = known.iter().filter(|one| one["name"] == *name);
        match (found.next().and_then(|one| one["uid"].as_str()), found.next()) {
            (Some(uid), None) => Ok(uid.to_owned()),
            (Some(_), Some(_)) => Err(format!("there is more than one {kind} {name:?}: write the uid")),
            (None, _) => {
                let names: Vec<&str> = known.iter().filter_map(|one| one["name"].as_str()).take(12).collect();
                Err(format!("there is no {kind} {name:?} in this world, but {}", names.join(", ")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_are_found() {
        let person = |uid: &str, name: &str| json!({ "uid": uid, "name": name });
        let people = [person("1", "a"), person("2", "b"), person("3", "b")];
        let people = People::new(json!({ "people": people, "groups": [person("7", "g")] }));
        let name = |name: &str| Who::Name(name.to_owned());
        assert_eq!(people.person(&name("a")), Ok("1".to_owned()));
        assert_eq!(people.person(&Who::Uid(9)), Ok("9".to_owned()));
        assert_eq!(people.person(&name("9")), Ok("9".to_owned()));
        assert_eq!(people.group(&name("g")), Ok("7".to_owned()));
        assert!(people.person(&name("b")).unwrap_err().contains("more than one person"));
        assert!(people.person(&name("g")).unwrap_err().ends_with("but a, b, b"));
    }
}
