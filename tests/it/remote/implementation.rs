//! [`Implementation`]: an account in a program that speaks OneBot v11, without a way to reach it. It is strict, as the
//! standard has it and a bit more, or sloppy, as some are.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

use serde_json::{Value, json};

use super::{milky, schemas};

/// How exact it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// It wants everything as the standard says, and answers so.
    Strict,
    /// Numbers as text, keys twice, fields missing, `null` for nothing.
    Sloppy,
    /// It speaks Milky, as the standard has it.
    Milky,
}

impl Manner {
    /// How logs name what it speaks.
    pub(super) fn network(self) -> &'static str {
        if self == Self::Milky { "Milky" } else { "OneBot" }
    }

    /// How parameters, variables and tables of the configuration name it.
    pub(super) fn backend(self) -> &'static str {
        if self == Self::Milky { "milky" } else { "onebot" }
    }

    /// All of them.
    pub(super) const ALL: [Self; 3] = [Self::Strict, Self::Sloppy, Self::Milky];
    /// One of each network.
    pub(super) const NETWORKS: [Self; 2] = [Self::Strict, Self::Milky];
    /// Those that speak OneBot.
    pub(super) const OF_ONEBOT: [Self; 2] = [Self::Strict, Self::Sloppy];
}

pub(super) const OWN: u64 = 10_000;

/// What it answers to a call; none: nothing.
type Answer = Box<dyn Fn(&Value) -> Option<Value> + Send>;

pub(super) struct Implementation {
    pub(super) manner: Manner,
    friends: Mutex<Vec<Value>>,
    groups: Mutex<Vec<Value>>,
    members: Mutex<HashMap<u64, Vec<Value>>>,
    answers: Mutex<HashMap<String, Answer>>,
    /// Those of calls of Milky that have no counterpart in the tests' OneBot.
    milky_answers: Mutex<HashMap<String, Answer>>,
    calls: Mutex<Vec<(String, Value)>>,
    complaints: Mutex<Vec<String>>,
    writes_badly: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A test that failed elsewhere holds it no more.
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

pub(super) fn ok(data: Value) -> Value {
    json!({ "status": "ok", "retcode": 0, "data": data })
}

pub(super) fn failed(code: i64) -> Value {
    json!({ "status": "failed", "retcode": code, "data": null, "message": "no", "wording": "no" })
}

impl Implementation {
    pub(super) fn new(manner: Manner) -> Self {
        let member = |uid: u64, name: &str, card: &str, role: &str| {
            json!({
                "group_id": 5, "user_id": uid, "nickname": name, "card": card, "role": role, "sex": "female",
                "join_time": 1_500_000_000, "last_sent_time": 1_600_000_000, "level": "3", "unfriendly": false,
            })
        };
        let fifth = vec![
            member(OWN, "机器人", "", "admin"),
            member(7, "小红", "红", "member"),
            member(9, "群主", "", "owner"),
            member(11, "管理", "", "admin"),
            member(12, "路人", "", "member"),
        ];
        let sixth = vec![member(OWN, "机器人", "", "member"), member(7, "小红", "", "member")];
        let friend = |uid: u64, name: &str, remark: &str| json!({ "user_id": uid, "nickname": name, "remark": remark });
        Self {
            manner,
            friends: Mutex::new(vec![friend(7, "小红", "红红"), friend(8, "李雷", "")]),
            groups: Mutex::new(vec![
                json!({ "group_id": 5, "group_name": "五群", "member_count": 5, "max_member_count": 200, "group_remark": "家" }),
                json!({ "group_id": 6, "group_name": "六群", "member_count": 2, "max_member_count": 500 }),
            ]),
            members: Mutex::new(HashMap::from([(5, fifth), (6, sixth)])),
            answers: Mutex::default(),
            milky_answers: Mutex::default(),
            calls: Mutex::default(),
            complaints: Mutex::default(),
            writes_badly: AtomicBool::new(false),
        }
    }

    pub(super) fn friends(&self) -> MutexGuard<'_, Vec<Value>> {
        lock(&self.friends)
    }

    pub(super) fn groups(&self) -> MutexGuard<'_, Vec<Value>> {
        lock(&self.groups)
    }

    pub(super) fn members(&self) -> MutexGuard<'_, HashMap<u64, Vec<Value>>> {
        lock(&self.members)
    }

    /// From now on this is what `action` is answered; none: nothing ever.
    pub(super) fn answer(&self, action: &str, answer: impl Fn(&Value) -> Option<Value> + Send + 'static) {
        lock(&self.answers).insert(action.to_owned(), Box::new(answer));
    }

    /// From now on this is what a call of Milky is answered, in Milky's own words; none: nothing ever.
    pub(super) fn answer_milky(&self, name: &str, answer: impl Fn(&Value) -> Option<Value> + Send + 'static) {
        lock(&self.milky_answers).insert(name.to_owned(), Box::new(answer));
    }

    /// The parameters of all calls of `action`.
    pub(super) fn calls(&self, action: &str) -> Vec<Value> {
        let calls = lock(&self.calls);
        calls.iter().filter(|(called, _)| called == action).map(|(_, params)| params.clone()).collect()
    }

    /// How many calls there were, of all kinds.
    pub(super) fn all_calls(&self) -> usize {
        lock(&self.calls).len()
    }

    /// From now on `<half>` in an answer is half a character, as programs write it that cut texts.
    pub(super) fn write_badly(&self) {
        self.writes_badly.store(true, Ordering::SeqCst);
    }

    /// An answer as it is written.
    pub(super) fn written(&self, answer: &Value) -> String {
        let half = if self.writes_badly.load(Ordering::SeqCst) { "\\ud83d" } else { "<half>" };
        answer.to_string().replace("<half>", half)
    }

    /// What was not as it should be.
    pub(super) fn complain(&self, what: String) {
        let mut complaints = lock(&self.complaints);
        if !complaints.contains(&what) {
            complaints.push(what);
        }
    }

    pub(super) fn complaints(&self) -> Vec<String> {
        lock(&self.complaints).clone()
    }

    /// The answer to a frame; none: it is not answered.
    pub(super) fn frame(&self, text: &str) -> Option<String> {
        let call: Value = serde_json::from_str(text).unwrap();
        if !call["echo"].is_string() || !call["params"].is_object() {
            self.complain(format!("neither echo as text nor params: {text}"));
        }
        let mut answer = self.call(call["action"].as_str().unwrap(), &call["params"])?;
        answer["echo"] = call["echo"].clone();
        Some(match self.manner {
            Manner::Strict => self.written(&answer),
            // The first of two equal keys must not count.
            Manner::Milky => unreachable!("it takes calls by HTTP"),
            Manner::Sloppy => {
                format!("{{\"echo\":\"nobody\",\"status\":\"failed\",{}", &self.written(&answer)[1..])
            }
        })
    }

    /// The answer to a call; none: it is not answered.
    pub(super) fn call(&self, action: &str, params: &Value) -> Option<Value> {
        // Held meanwhile: who sees the call may give another answer to the next, not to this one.
        let answers = lock(&self.answers);
        lock(&self.calls).push((action.to_owned(), params.clone()));
        for key in ["user_id", "group_id"] {
            if params.get(key).is_some_and(|id| !id.is_u64()) {
                self.complain(format!("{action}: {key} is no number: {params}"));
            }
        }
        if let Some(answer) = answers.get(action) {
            return answer(params);
        }
        drop(answers);
        let answer = self.usual(action, params);
        Some(match self.manner {
            Manner::Strict | Manner::Milky => answer,
            Manner::Sloppy => sloppy(answer),
        })
    }

    /// The answer to a call of Milky; none: it is not answered.
    pub(super) fn milky_call(&self, name: &str, params: &Value) -> Option<Value> {
        if let Some(answer) = lock(&self.milky_answers).get(name) {
            lock(&self.calls).push((name.to_owned(), params.clone()));
            self.hold_against_schema("call", name, params);
            let answer = answer(params)?;
            if answer["status"] == "ok" {
                self.hold_against_schema("answer", name, &answer["data"]);
            }
            return Some(answer);
        }
        let Some((action, onebot)) = milky::call(name, params) else {
            self.complain(format!("Milky has no call {name}, or the tests' server does not answer it"));
            return Some(milky::answer(name, &failed(-404)));
        };
        self.hold_against_schema("call", name, params);
        let answer = milky::answer(action, &self.call(action, &onebot)?);
        if answer["status"] == "ok" {
            self.hold_against_schema("answer", name, &answer["data"]);
        }
        Some(answer)
    }

    /// Complains about what is not as Milky has it.
    fn hold_against_schema(&self, kind: &str, name: &str, value: &Value) {
        if let Some(mismatch) = schemas::mismatch(kind, name, value) {
            self.complain(mismatch);
        }
    }

    fn usual(&self, action: &str, params: &Value) -> Value {
        let wants = |keys: &[&str]| {
            for key in keys {
                if params.get(key).is_none() {
                    self.complain(format!("{action} without {key}: {params}"));
                }
            }
        };
        let member = || {
            let members = self.members();
            let mut members = members.get(&params["group_id"].as_u64()?)?.iter();
            members.find(|member| member["user_id"] == params["user_id"]).cloned()
        };
        match action {
            "get_login_info" => ok(json!({ "user_id": OWN, "nickname": "机器人" })),
            "get_stranger_info" => {
                wants(&["user_id", "no_cache"]);
                ok(
                    json!({ "user_id": params["user_id"], "nickname": format!("陌生{}", params["user_id"]), "sex": "male", "age": 1 }),
                )
            }
            "get_status" => ok(json!({ "online": true, "good": true })),
            "get_friend_list" => ok(json!(*self.friends())),
            "get_friends_with_category" if self.manner == Manner::Sloppy => failed(1404),
            "get_friends_with_category" => {
                ok(json!([{ "categoryId": 1, "categoryName": "同学", "buddyList": [{ "user_id": 8 }] }]))
            }
            "get_group_list" => ok(json!(*self.groups())),
            "get_group_member_list" => {
                wants(&["group_id"]);
                let members = self.members();
                ok(json!(params["group_id"].as_u64().and_then(|group| members.get(&group))))
            }
            "get_group_member_info" => {
                wants(&["group_id", "user_id", "no_cache"]);
                member().map_or_else(|| failed(1200), ok)
            }
            "send_private_msg" | "send_group_msg" => {
                wants(&["message", "auto_escape"]);
                if !params["message"].is_array() || params["auto_escape"] != false {
                    self.complain(format!("the message is no array: {params}"));
                }
                ok(json!({ "message_id": -2_000_000_001_i64 }))
            }
            "set_group_ban" => {
                wants(&["group_id", "user_id", "duration"]);
                ok(Value::Null)
            }
            "set_group_kick" => {
                wants(&["group_id", "user_id", "reject_add_request"]);
                ok(Value::Null)
            }
            _ => failed(1404),
        }
    }

    /// An event as this implementation writes it.
    pub(super) fn event(&self, mut event: Value) -> String {
        for (key, value) in [("self_id", json!(OWN)), ("time", json!(1_700_000_000))] {
            if event.get(key).is_none() {
                event[key] = value;
            }
        }
        match self.manner {
            Manner::Strict => event.to_string(),
            Manner::Milky => self.milky_event(&event).to_string(),
            Manner::Sloppy => {
                let event = sloppy(event);
                format!("{{\"post_type\":\"notice\",\"user_id\":1,{}", &event.to_string()[1..])
            }
        }
    }

    fn milky_event(&self, event: &Value) -> Value {
        let (friends, groups, members) = (self.friends(), self.groups(), self.members());
        let known = milky::Known { friends: &friends, groups: &groups, members: &members };
        let Some(event) = milky::event(event, OWN, &known) else {
            // No schema is that of what is not in Milky yet.
            return json!({ "time": 1, "self_id": OWN, "event_type": "of_a_later_version", "data": {} });
        };
        self.hold_against_schema("event", event["event_type"].as_str().unwrap(), &event);
        event
    }
}

/// The same with numbers as text, and without empty and optional fields.
fn sloppy(mut value: Value) -> Value {
    match &mut value {
        Value::Object(object) => {
            object.retain(|key, value| {
                !matches!(key.as_str(), "wording" | "join_time" | "sex")
                    && *value != ""
                    && *value != json!([])
            });
            for (key, value) in object {
                let taken = value.take();
                *value = match (key.as_str(), taken) {
                    ("retcode" | "interval", code) => code,
                    (_, Value::Number(number)) => json!(number.to_string()),
                    (_, other) => sloppy(other),
                };
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = sloppy(item.take())),
        _ => {}
    }
    value
}
