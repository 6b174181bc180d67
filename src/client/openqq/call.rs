//! [`Call`]: the parameters of a request, and the wrapping its answer is to have.

use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;

use super::reply::{self, Reply};
use crate::http::answer::Body;
use crate::http::params::{ParamError, Params};

/// The longest body that is read, in bytes.
const MAX_BODY: usize = 1024 * 1024;

/// How long a caller may take to send its body.
const BODY_TIME: Duration = Duration::from_secs(30);

/// The longest name of a callback, in bytes.
const MAX_CALLBACK: usize = 128;

/// Why a request cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// Its parameters cannot be read.
    #[error(transparent)]
    Params(#[from] ParamError),
    /// Its body is too long.
    #[error("the body is longer than {MAX_BODY} bytes")]
    TooLong,
    /// Its body did not come in time.
    #[error("the body did not come within {} seconds", BODY_TIME.as_secs())]
    TooSlow,
    /// Its body broke off.
    #[error("the body broke off")]
    BrokeOff,
    /// The callback is missing, or is no name in JavaScript.
    #[error("datatype=jsonp takes a callback that is a JavaScript name, such as f or a.b")]
    Callback,
}

impl CallError {
    /// The answer that says so.
    pub(super) fn answer(&self) -> Response<Body> {
        let status = match self {
            // As plain text: there is no way to call back, and nothing of the request may be run as a script.
            Self::Callback => return reply::text(StatusCode::BAD_REQUEST, self.to_string()),
            Self::Params(_) | Self::BrokeOff => StatusCode::BAD_REQUEST,
            Self::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
        };
        Reply::error(status, reply::BAD_REQUEST, self.to_string()).into_response()
    }
}

/// A request that was read.
#[derive(Debug)]
pub(super) struct Call {
    params: Params,
    callback: Option<String>,
}

impl Call {
    /// Reads the query of `request`, and its body where that is a form. What stands in both counts in the query.
    ///
    /// # Errors
    /// Anything is ambiguous, too long or too slow.
    pub(super) async fn read(request: Request<Incoming>) -> Result<Self, CallError> {
        let mut params = Params::parse(request.uri().query().unwrap_or_default().as_bytes())?;
        if *request.method() == Method::POST && is_form(request.headers().get(CONTENT_TYPE)) {
            params.fill_from(Params::parse(&body(request.into_body()).await?)?);
        }
        Self::new(params)
    }

    fn new(mut params: Params) -> Result<Self, CallError> {
        // Who we are is the controller's question: here it is never a property to search by.
        params.remove("client");
        let callback = params.remove("callback");
        let callback = match params.remove("datatype").as_deref() {
            Some("jsonp") => Some(callback.filter(|name| is_callback(name)).ok_or(CallError::Callback)?),
            _ => None,
        };
        Ok(Self { params, callback })
    }

    /// The value of a parameter.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.params.get(name)
    }

    /// Every parameter that can be a property to search by.
    pub(super) fn properties(&self) -> impl Iterator<Item = (&str, &str)> {
        self.params.iter().filter(|(name, _)| !matches!(*name, "content" | "async"))
    }

    /// Whether a parameter is set to something that Perl, in which the original is written, calls true.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| !matches!(value, "" | "0"))
    }

    /// `reply` as this call wants it: JSON, or a script that calls back with it.
    pub(super) fn wrap(&self, reply: Reply) -> Response<Body> {
        const NO_SNIFFING: HeaderName = HeaderName::from_static("x-content-type-options");
        let Some(callback) = &self.callback else { return reply.into_response() };
        // Both are spaces in JSON and line ends in older JavaScript.
        let spelled_out = |json: &str| json.replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029");
        let mut response = reply.wrapped(format!("{callback}("), spelled_out, ")".to_owned()).into_response();
        let script = HeaderValue::from_static("application/javascript; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, script);
        response.headers_mut().insert(NO_SNIFFING, HeaderValue::from_static("nosniff"));
        response
    }
}

async fn body(body: Incoming) -> Result<bytes::Bytes, CallError> {
    let whole = tokio::time::timeout(BODY_TIME, Limited::new(body, MAX_BODY).collect()).await;
    match whole.map_err(|_| CallError::TooSlow)? {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(CallError::TooLong),
        Err(_) => Err(CallError::BrokeOff),
    }
}

fn is_form(content_type: Option<&HeaderValue>) -> bool {
    let Some(Ok(content_type)) = content_type.map(HeaderValue::to_str) else { return false };
    let essence = content_type.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// Whether `name` is names of JavaScript with dots between them.
fn is_callback(name: &str) -> bool {
    let starts = |c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '$');
    let is_name =
        |part: &str| part.starts_with(starts) && part.chars().all(|c| starts(c) || c.is_ascii_digit());
    name.len() <= MAX_CALLBACK && name.split('.').all(is_name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn call(query: &str) -> Result<Call, CallError> {
        Call::new(Params::parse(query.as_bytes()).unwrap())
    }

    #[test]
    fn callbacks_are_names() {
        for good in ["f", "_", "$", "jQuery1_2", "a.b.c", &"f".repeat(128)] {
            assert!(is_callback(good), "{good}");
        }
        for bad in ["", "1f", "a..b", ".a", "a.", "alert(1)", "a b", "a[0]", "回调", "a;b", &"f".repeat(129)]
        {
            assert!(!is_callback(bad), "{bad}");
        }
        assert!(matches!(call("datatype=jsonp"), Err(CallError::Callback)));
        assert!(call("datatype=json&callback=1").is_ok());
    }

    #[tokio::test]
    async fn wraps_what_is_asked_for() {
        let said = |query, reply| {
            let response = call(query).unwrap().wrap(reply);
            async { response.into_body().collect().await.unwrap().to_bytes() }
        };
        assert_eq!(said("a=1", Reply::ok(json!([1]))).await, "[1]");
        let line_ends = Reply::ok(json!("\u{2028}\u{2029}"));
        assert_eq!(said("datatype=jsonp&callback=a.b", line_ends).await, r#"a.b("\u2028\u2029")"#);
    }

    #[test]
    fn common_parameters_are_no_properties() {
        let call = call("client=a&datatype=jsonp&callback=f&id=1&async=1&x=0&y=").unwrap();
        assert_eq!(call.get("id"), Some("1"));
        for name in ["client", "datatype", "callback"] {
            assert_eq!(call.get(name), None);
        }
        assert!(call.is_set("async") && !call.is_set("x") && !call.is_set("y") && !call.is_set("z"));
    }

    #[test]
    fn forms() {
        let is_form = |text| super::is_form(Some(&HeaderValue::from_static(text)));
        assert!(is_form("application/x-www-form-urlencoded"));
        assert!(is_form("Application/X-WWW-Form-Urlencoded; charset=UTF-8"));
        assert!(!is_form("application/json"));
        assert!(!super::is_form(None));
    }
}
