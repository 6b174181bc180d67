//! The reply to a start or a stop, by its outcome.

use super::Reply;
use crate::model::client::ClientSpec;
use crate::model::fleet::{ClientInfo, RequestOutcome};

impl Reply {
    /// What became of a start or a stop.
    pub fn outcome(outcome: &RequestOutcome) -> Self {
        match outcome {
            RequestOutcome::Started(told) | RequestOutcome::Stopped(told) => Self::about(told, "success"),
            // Code 0, as in the original: the client that the caller wants is there.
            RequestOutcome::AlreadyExists(told) => Self::about(told, "client already exists"),
            RequestOutcome::NotExists => Self::no_such_client(),
            RequestOutcome::NoPort(spec) => Self::refused(spec, 2, "no available port"),
            RequestOutcome::Failed(spec, why) => Self::refused_because(spec, 3, "failure", why),
            RequestOutcome::Invalid(spec, why) => Self::invalid(why).with("client", spec.name.as_str()),
            RequestOutcome::NoPid(spec, exit) => {
                Self::refused_because(spec, 4, "client pid not ok", &format!("the client {exit} at once"))
            }
            RequestOutcome::TooMany(spec) => Self::refused(spec, 5, "max clients exceed"),
        }
    }

    fn about(told: &ClientInfo, status: &str) -> Self {
        let reply = Self::new(200, 0, status)
            .with("account", told.spec.name.as_str())
            .with("client", told.spec.name.as_str())
            .with("port", told.port);
        // The original's `pid` is always a number, so without a process there is none rather than a null.
        let reply = match told.pid {
            Some(pid) => reply.with("pid", pid),
            None => reply,
        };
        reply.with_params(&told.spec)
    }

    fn refused(spec: &ClientSpec, code: i32, status: &str) -> Self {
        Self::new(200, code, status).with("client", spec.name.as_str()).with_params(spec)
    }

    fn refused_because(spec: &ClientSpec, code: i32, status: &str, why: &str) -> Self {
        Self::new(200, code, status).with("client", spec.name.as_str()).with("reason", why).with_params(spec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::client::Exit;
    use crate::wire::spec;
    use serde_json::{Value, json};

    fn told(params: &[(&str, &str, bool)]) -> ClientInfo {
        ClientInfo { spec: spec(params), port: 5000, pid: Some(32294) }
    }

    fn text(reply: Reply) -> String {
        assert_eq!(reply.http_status, 200);
        Value::Object(reply.body).to_string()
    }

    #[test]
    fn replies_match_the_original_word_for_word() {
        let success = r#"{"account":"webqq_client_01","client":"webqq_client_01","code":0,"pid":32294,"port":5000,"status":"success"}"#;
        assert_eq!(text(Reply::outcome(&RequestOutcome::Started(told(&[])))), success);
        assert_eq!(text(Reply::outcome(&RequestOutcome::Stopped(told(&[])))), success);
        let exists = success.replace("success", "client already exists");
        assert_eq!(text(Reply::outcome(&RequestOutcome::AlreadyExists(told(&[])))), exists);
        let without = ClientInfo { pid: None, ..told(&[]) };
        let stopped = success.replace(r#""pid":32294,"#, "");
        assert_eq!(
            text(Reply::outcome(&RequestOutcome::Stopped(without))),
            stopped,
            "no null where a number is expected"
        );
        assert_eq!(text(Reply::no_client_given()), r#"{"code":1,"status":"client not found"}"#);
        assert_eq!(
            text(Reply::outcome(&RequestOutcome::NotExists)),
            r#"{"code":1,"status":"client not exists"}"#
        );
        let code = |outcome| {
            let reply = Reply::outcome(&outcome);
            format!("{} {}", reply.body["code"], reply.body["status"])
        };
        assert_eq!(code(RequestOutcome::NoPort(spec(&[]))), r#"2 "no available port""#);
        assert_eq!(code(RequestOutcome::Failed(spec(&[]), "why".into())), r#"3 "failure""#);
        assert_eq!(code(RequestOutcome::NoPid(spec(&[]), Exit::Code(1))), r#"4 "client pid not ok""#);
        assert_eq!(code(RequestOutcome::TooMany(spec(&[]))), r#"5 "max clients exceed""#);
        assert_eq!(Reply::no_such_path().http_status, 403);
        assert_eq!(
            Value::Object(Reply::no_such_path().body).to_string(),
            r#"{"code":-1,"status":"api not found"}"#
        );
    }

    #[test]
    fn parameters_are_echoed_without_secrets_or_overrides() {
        let given = [
            ("log_level", "debug", false),
            ("pwd", "geheim", true),
            ("code", "9", false),
            ("status", "x", false),
            ("pid", "1", false),
            ("reason", "x", false),
        ];
        let reply = Value::Object(Reply::outcome(&RequestOutcome::Started(told(&given))).body);
        assert_eq!(
            reply,
            json!({"account": "webqq_client_01", "client": "webqq_client_01", "code": 0, "pid": 32294, "port": 5000, "status": "success",
                   "log_level": "debug"})
        );
        let without = ClientInfo { pid: None, ..told(&given) };
        let stopped = Reply::outcome(&RequestOutcome::Stopped(without)).body;
        assert!(!stopped.contains_key("pid") && !stopped.contains_key("reason"), "{stopped:?}");
        let full = Reply::outcome(&RequestOutcome::TooMany(spec(&given))).body;
        assert_eq!(full.keys().collect::<Vec<_>>(), ["client", "code", "log_level", "status"]);
        let failed =
            Value::Object(Reply::outcome(&RequestOutcome::Failed(spec(&given), "no perl".into())).body);
        assert_eq!((&failed["code"], &failed["reason"]), (&json!(3), &json!("no perl")));
    }
}
