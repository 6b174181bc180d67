//! [`RequestParams`]: the parameters of a request, and the format of its answer.

use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;

use super::reply::{self, ApiReply};
use crate::http::body::Body;
use crate::http::request::body::{CollectError, collect};
use crate::http::request::form::FormKind;
use crate::http::request::params::{ParamError, Params};

/// The longest body that is read, in bytes.
const MAX_BODY: usize = 1024 * 1024;

/// The longest body of a call that sends: it may have an image.
const MAX_MESSAGE_BODY: usize = 6 * 1024 * 1024;

/// How long a caller may take to send its body.
const BODY_TIME: Duration = Duration::from_secs(30);

/// The longest name of a callback, in bytes.
const MAX_CALLBACK: usize = 128;

/// Why a request cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestParamsError {
    /// Its parameters cannot be read.
    #[error(transparent)]
    Params(#[from] ParamError),
    /// Its body is too long.
    #[error("the body is longer than {0} bytes")]
    TooLong(usize),
    /// It has no query, and its body is no form.
    #[error("the body is no form: send a form or a JSON object")]
    NoForm,
    /// Its body did not arrive in time.
    #[error("the body did not come within {} seconds", BODY_TIME.as_secs())]
    TooSlow,
    /// Its body broke off.
    #[error("the body broke off")]
    BrokeOff,
    /// The callback is missing, or is not a JavaScript name.
    #[error("datatype=jsonp takes a callback that is a JavaScript name, such as f or a.b")]
    Callback,
}

impl RequestParamsError {
    /// The answer for this error.
    pub(crate) fn answer(&self) -> Response<Body> {
        let status = match self {
            // As plain text, since there is no callback, and nothing of the request may be run as a script.
            Self::Callback => return reply::text(StatusCode::BAD_REQUEST, self.to_string()),
            Self::Params(_) | Self::BrokeOff => StatusCode::BAD_REQUEST,
            Self::TooLong(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NoForm => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
        };
        ApiReply::error(status, reply::BAD_REQUEST, self.to_string()).into_response()
    }
}

/// A parsed request.
#[derive(Debug)]
pub(crate) struct RequestParams {
    params: Params,
    callback: Option<String>,
}

impl RequestParams {
    /// Reads the query and the body, which is a form with any method. The query takes precedence.
    ///
    /// # Errors
    /// It is ambiguous, too long or too slow.
    pub(crate) async fn read(request: Request<Incoming>) -> Result<Self, RequestParamsError> {
        Self::read_up_to(request, MAX_BODY).await
    }

    /// The same of a message, which may have an image.
    ///
    /// # Errors
    /// As [`RequestParams::read`].
    pub(crate) async fn read_message(request: Request<Incoming>) -> Result<Self, RequestParamsError> {
        Self::read_up_to(request, MAX_MESSAGE_BODY).await
    }

    /// The query alone: what says how the answer is to look. The rest of the call is read elsewhere.
    ///
    /// # Errors
    /// It can't be read.
    pub(crate) fn of_query(query: &str) -> Result<Self, RequestParamsError> {
        Self::new(Params::parse(query.as_bytes())?)
    }

    async fn read_up_to(request: Request<Incoming>, most: usize) -> Result<Self, RequestParamsError> {
        let mut params = Params::parse(request.uri().query().unwrap_or_default().as_bytes())?;
        if request.body().is_end_stream() {
            return Self::new(params);
        }
        let kind = FormKind::of(request.headers());
        let body = body(request.into_body(), most).await?;
        match kind {
            Some(kind) => params.fill_from(kind.parse(&body)?),
            // The original ignores such a body and answers that nothing was found. That answer is only true if
            // the query has parameters.
            None if body.is_empty() || params.iter().next().is_some() => {}
            None => return Err(RequestParamsError::NoForm),
        }
        Self::new(params)
    }

    fn new(mut params: Params) -> Result<Self, RequestParamsError> {
        // The controller routes by it; here it is never a property to search by.
        params.remove("client");
        // jQuery adds it to bypass caches.
        params.remove("_");
        let callback = params.remove("callback");
        let callback = match params.remove("datatype").as_deref() {
            Some("jsonp") => {
                Some(callback.filter(|name| is_callback(name)).ok_or(RequestParamsError::Callback)?)
            }
            _ => None,
        };
        Ok(Self { params, callback })
    }

    /// A call with these parameters.
    #[cfg(test)]
    pub(super) fn of(params: &[(&str, &str)]) -> Self {
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(params).finish();
        Self { params: Params::parse(query.as_bytes()).unwrap(), callback: None }
    }

    /// The value of a parameter.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.params.get(name)
    }

    /// The parameters that may be properties to search by.
    pub(crate) fn properties(&self) -> impl Iterator<Item = (&str, &str)> {
        self.params.iter().filter(|(name, _)| !matches!(*name, "content" | "async"))
    }

    /// Whether a parameter is true by the rules of Perl, in which the original is written.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| !matches!(value, "" | "0"))
    }

    /// Formats `reply` as this call wants it: JSON, or a script that calls back with it.
    pub(crate) fn wrap(&self, reply: ApiReply) -> Response<Body> {
        const NO_SNIFFING: HeaderName = HeaderName::from_static("x-content-type-options");
        let Some(callback) = &self.callback else { return reply.into_response() };
        // Allowed in JSON strings, but line ends in older JavaScript.
        let spelled_out = |json: &str| json.replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029");
        let mut response = reply.wrapped(format!("{callback}("), spelled_out, ")".to_owned()).into_response();
        let script = HeaderValue::from_static("application/javascript; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, script);
        response.headers_mut().insert(NO_SNIFFING, HeaderValue::from_static("nosniff"));
        response
    }
}

async fn body(body: Incoming, most: usize) -> Result<bytes::Bytes, RequestParamsError> {
    collect(body, most, BODY_TIME).await.map_err(|error| match error {
        CollectError::TooLong => RequestParamsError::TooLong(most),
        CollectError::TimedOut => RequestParamsError::TooSlow,
        CollectError::BrokeOff => RequestParamsError::BrokeOff,
    })
}

/// Whether `name` is a dotted JavaScript name.
fn is_callback(name: &str) -> bool {
    let starts = |c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '$');
    let is_name =
        |part: &str| part.starts_with(starts) && part.chars().all(|c| starts(c) || c.is_ascii_digit());
    name.len() <= MAX_CALLBACK && name.split('.').all(is_name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use serde_json::json;

    fn call(query: &str) -> Result<RequestParams, RequestParamsError> {
        RequestParams::new(Params::parse(query.as_bytes()).unwrap())
    }

    #[test]
    fn jsonp_callback_must_be_a_name() {
        for good in ["f", "_", "$", "jQuery1_2", "a.b.c", &"f".repeat(128)] {
            assert!(is_callback(good), "{good}");
        }
        for bad in ["", "1f", "a..b", ".a", "a.", "alert(1)", "a b", "a[0]", "回调", "a;b", &"f".repeat(129)]
        {
            assert!(!is_callback(bad), "{bad}");
        }
        assert!(matches!(call("datatype=jsonp"), Err(RequestParamsError::Callback)));
        assert!(call("datatype=json&callback=1").is_ok());
    }

    #[tokio::test]
    async fn reply_is_wrapped_for_jsonp() {
        let said = |query, reply| {
            let response = call(query).unwrap().wrap(reply);
            async { response.into_body().collect().await.unwrap().to_bytes() }
        };
        assert_eq!(said("a=1", ApiReply::ok(json!([1]))).await, "[1]");
        let line_ends = ApiReply::ok(json!("\u{2028}\u{2029}"));
        assert_eq!(said("datatype=jsonp&callback=a.b", line_ends).await, r#"a.b("\u2028\u2029")"#);
    }

    #[test]
    fn common_parameters_are_not_searched_by() {
        let call = call("client=a&datatype=jsonp&callback=f&id=1&async=1&x=0&y=&_=1479112345").unwrap();
        assert_eq!(call.get("id"), Some("1"));
        for name in ["client", "datatype", "callback", "_"] {
            assert_eq!(call.get(name), None);
        }
        assert!(call.is_set("async") && !call.is_set("x") && !call.is_set("y") && !call.is_set("z"));
    }
}
